import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { credentialsFile } from '../src/admin/bootstrap.ts';
import { INHERITED } from './fixtures.ts';
import { atEnd, openReceiver, openServer } from './setup.ts';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const { server, me } = await openServer();
const receiver = await openReceiver();
const data_dir = mkdtempSync(join(tmpdir(), 'coulomb-listen-'));
writeFileSync(join(data_dir, 'sandbox.env'), credentialsFile(server.base_url, server.credentials));
atEnd(() => rmSync(data_dir, { recursive: true }));
const environment = () => ({ ...INHERITED, COULOMB_DATA_DIR: data_dir });

/** `coulomb listen` in a process of its own; resolves when it has said its secret, which the receiver then knows. */
async function startListening(...more: string[]) {
  const child = spawn(process.execPath, [MAIN, 'listen', '--forward-to', receiver.url, ...more], {
    env: environment(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  await receiver.until(() => /signing secret: \S+\n/.test(printed), 'the secret');
  const [, id = ''] = /x-voltage-webhook-id: (\S+)/.exec(printed) ?? [];
  const [, secret = ''] = /signing secret: (\S+)/.exec(printed) ?? [];
  receiver.secrets.set(id, [secret]);
  return {
    secret,
    printed: () => printed,
    async stop() {
      const gone = new Promise((done) => child.once('exit', done));
      child.kill('SIGTERM');
      await gone;
    },
  };
}

test("coulomb listen forwards a sandbox's events to a local URL, signed as a webhook with the secret that it prints", async () => {
  const listening = await startListening();
  await me.fund(1000);
  await receiver.until(() => receiver.received.length === 3, 'three events');
  assert.deepEqual(
    receiver.received.map(({ event }) => event),
    ['generated', 'succeeded', 'completed'],
  );
  assert.deepEqual(receiver.refused, []);
  await receiver.until(
    () => /receive\.completed {2}\S+ {2}200/.test(listening.printed()),
    'a line per event',
  );
  await listening.stop();
  const again = await startListening('--types', 'send');
  assert.equal(again.secret, listening.secret, 'a receiver is set up once');
  await me.fund(1000);
  const { payment_request } = await me.outsideInvoice({ amount_msats: 100 });
  await me.send({ payment_request });
  await receiver.until(() => receiver.received.length > 3, 'the send');
  assert.equal(receiver.received.at(-1)?.type, 'send');
  assert.equal(receiver.received.length, 4);
  await again.stop();
});

test('coulomb listen forwards whatever characters a payment holds, each event once', async () => {
  const listening = await startListening('--types', 'receive.generated');
  const before_it = receiver.received.length;
  const payment = await me.receive({ description: 'one\u2028two\u2029three\u0085four' });
  const next = await me.receive();
  const told = () => receiver.received.slice(before_it).map(({ data }) => data);
  await receiver.until(() => told().some(({ id }) => id === next.id), 'the one after it');
  assert.deepEqual(told(), [payment, next]);
  assert.deepEqual(receiver.refused, []);
  await listening.stop();
});

test('coulomb listen says what is wrong with its flags', async () => {
  // Not spawnSync: the server that it asks is in this process.
  const run = async (args: string[] = [], more: Record<string, string> = {}) => {
    const child = spawn(process.execPath, [MAIN, 'listen', ...args], { env: { ...environment(), ...more } });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const status = await new Promise((done) => child.once('close', done));
    return { status, stderr };
  };
  const missing = await run();
  assert.equal(missing.status, 2);
  assert.match(missing.stderr, /--forward-to/);
  const wrong = await run(['--forward-to', receiver.url], { VOLTAGE_API_KEY: 'vltg_wrong' });
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /401/);
  const shown = await run(['--forward-to', receiver.url, '--api-key', 'vltg_canary']);
  assert.equal(shown.status, 2, 'threat 15: a key among the arguments is there for everybody to see');
});
