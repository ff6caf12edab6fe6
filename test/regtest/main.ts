import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { startNetwork } from './network.ts';
import { freePorts } from './ports.ts';

// npm run regtest: the whole network with a server in front of it, until Ctrl-C.
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

say('building (once, some minutes) and starting the network …');
const net = await startNetwork();
const data = join(net.folder, 'coulomb');
mkdirSync(data, { mode: 0o711 });
const [port = 0] = await freePorts(1);
const environment = {
  ...process.env,
  COULOMB_DATA_DIR: data,
  COULOMB_PORT: String(port),
  COULOMB_NODES_FILE: net.nodes_file,
  COULOMB_LOG_LEVEL: process.env['COULOMB_LOG_LEVEL'] ?? 'warn',
};
const server = spawn(process.execPath, [MAIN, 'serve'], {
  env: environment,
  stdio: ['ignore', 'pipe', 'inherit'],
});
await new Promise<void>((done, fail) => {
  server.stdout.on('data', (chunk: Buffer) => {
    if (chunk.toString().includes('API reference')) done();
  });
  server.once('exit', () => fail(new Error('the server ended')));
});
const credentials = join(net.folder, 'regtest.env');
execFileSync(
  process.execPath,
  [MAIN, 'bootstrap', '--organization', 'Regtest', '--kind', 'staging', '--network', 'testnet3'].concat([
    '--currency',
    'btc',
    '--limit',
    '1000000000',
    '--out',
    credentials,
  ]),
  { env: environment },
);
say(`\n${readFileSync(credentials, 'utf8')}`);
say(`credentials: ${credentials}   API reference: http://127.0.0.1:${port}/docs`);
for (const name of ['ours', 'bob', 'carol'] as const) {
  const node = net[name];
  const shown = name === 'ours' ? 'ours (behind the server)' : name;
  say(`${shown}: lncli --network regtest --rpcserver 127.0.0.1:${node.rpc_port} --lnddir ${node.folder}`);
}
say(`
carol is the outside world. Type:
  invoice SATS          an invoice of carol
  pay INVOICE           carol pays
  address               an address of carol
  faucet ADDRESS SATS   pays an address from the miner
  mine [N]              mines blocks
  reorg [N]             replaces the last blocks
`);

const COMMANDS: Record<string, (...words: string[]) => Promise<unknown>> = {
  invoice: (sats = '0') => net.carol.invoice({ amount_msats: BigInt(sats) * 1000n }),
  pay: (invoice = '') =>
    net.carol.pay(invoice).then(({ status, failure_reason }) => ({ status, failure_reason })),
  address: () => net.carol.address(),
  faucet: async (address = '', sats = '0') => {
    const { tx_id } = await net.chain.pay({ address, amount_sats: BigInt(sats) });
    return tx_id;
  },
  mine: (count = '1') => net.mine(Number(count)).then(() => net.chain.height()),
  reorg: (depth = '1') => net.chain.reorg(Number(depth)).then(() => net.chain.height()),
};
createInterface({ input: process.stdin }).on('line', (line) => {
  const [name = '', ...words] = line.trim().split(/\s+/);
  const command = COMMANDS[name];
  if (!command) return say(Object.keys(COMMANDS).join(', '));
  void command(...words).then(
    (answer) => say(JSON.stringify(answer)),
    (error: unknown) => say((error as Error).message),
  );
});

let stopping = false;
process.on('SIGINT', () => {
  if (stopping) process.exit(1);
  stopping = true;
  server.kill('SIGTERM');
  server.once('exit', () => void net.stop().then(() => process.exit(0)));
});
