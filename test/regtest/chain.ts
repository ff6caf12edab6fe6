import { request } from 'node:https';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { p2wpkh, Transaction } from '@scure/btc-signer';
import secp256k1 from 'secp256k1';
import { freePorts } from './ports.ts';
import { eventually } from '../wait.ts';
import { startProgram } from './program.ts';
import type { Tools } from './build.ts';

const REGTEST = { bech32: 'bcrt', pubKeyHash: 0x6f, scriptHash: 0xc4, wif: 0xef };
/** btcd's regtest activates SegWit and Taproot at 432; coinbases are spendable after 100 more. */
const FIRST_BLOCKS = 540;
const SPENDABLE = 400;
const FEE_SATS = 1000n;
const REPLACEABLE = 0xfffffffd;

export interface Output {
  address: string;
  amount_sats: bigint;
}

interface Coin {
  txid: string;
  amount_sats: bigint;
}

export interface ChainAccess {
  rpc_port: number;
  rpc_cert: string;
  user: string;
  password: string;
}

/** A transaction of the faucet, and the coin that it spends. */
export interface Paid {
  tx_id: string;
  coin: Coin;
  fee_sats: bigint;
}

/** A chain as it is kept in its folder: btcd itself forgets a regtest chain when it starts. */
interface Kept {
  key: string;
  blocks: string[];
}

const argsOf = (
  folder: string,
  access: ChainAccess,
  { listen_port, address }: { listen_port: number; address: string },
): string[] => [
  '--regtest',
  '--txindex',
  '--configfile=/dev/null',
  `--datadir=${join(folder, 'data')}`,
  `--logdir=${join(folder, 'logs')}`,
  `--rpcuser=${access.user}`,
  `--rpcpass=${access.password}`,
  `--rpclisten=127.0.0.1:${access.rpc_port}`,
  `--listen=127.0.0.1:${listen_port}`,
  `--rpccert=${access.rpc_cert}`,
  `--rpckey=${join(folder, 'rpc.key')}`,
  `--miningaddr=${address}`,
  // Nothing is relayed anywhere: what a wallet offers is taken at any fee rate.
  '--minrelaytxfee=0.00001',
  // By default it clears 250 MiB for a chain that is a few hundred blocks.
  '--utxocachemaxsize=10',
];

type Rpc = <T>(method: string, ...params: unknown[]) => Promise<T>;

const lockOf = (key: Uint8Array) => p2wpkh(secp256k1.publicKeyCreate(key, true), REGTEST);

/** Pays from the miner's old coinbases. */
function createFaucet(rpc: Rpc, key: Uint8Array) {
  const own = lockOf(key);
  // Each old coinbase is spent once; change is left behind.
  let next_height = 1;
  async function coin(): Promise<Coin> {
    while (next_height <= SPENDABLE) {
      const hash = await rpc<string>('getblockhash', next_height);
      next_height += 1;
      const block = await rpc<{ tx: [string] }>('getblock', hash, 1);
      const [txid] = block.tx;
      const unspent = await rpc<{ value: number } | null>('gettxout', txid, 0);
      if (unspent) return { txid, amount_sats: BigInt(Math.round(unspent.value * 1e8)) };
    }
    throw new Error('the faucet is empty');
  }

  /** Signs a spend of a coin and broadcasts it; the change goes back to the miner. */
  async function spend(coin: Coin, outputs: readonly Output[], fee_sats: bigint): Promise<Paid> {
    const transaction = new Transaction();
    transaction.addInput({
      txid: coin.txid,
      index: 0,
      sequence: REPLACEABLE,
      witnessUtxo: { script: own.script, amount: coin.amount_sats },
    });
    for (const output of outputs) transaction.addOutputAddress(output.address, output.amount_sats, REGTEST);
    const given = outputs.reduce((sum, { amount_sats }) => sum + amount_sats, 0n);
    transaction.addOutputAddress(own.address ?? '', coin.amount_sats - given - fee_sats, REGTEST);
    transaction.sign(key);
    transaction.finalize();
    await rpc('sendrawtransaction', transaction.hex);
    return { tx_id: transaction.id, coin, fee_sats };
  }
  return {
    pay: async (...outputs: Output[]) => spend(await coin(), outputs, FEE_SATS),
    replace: (old: Paid, ...outputs: Output[]) => spend(old.coin, outputs, old.fee_sats * 4n),
  };
}

async function allBlocks(access: ChainAccess, height: number): Promise<string[]> {
  const heights = Array.from({ length: height }, (_, index) => index + 1);
  const hashes = await call<string>(
    access,
    heights.map((at) => ({ method: 'getblockhash', params: [at] })),
  );
  return call<string>(
    access,
    hashes.map((hash) => ({ method: 'getblock', params: [hash, 0] })),
  );
}

export type Chain = Awaited<ReturnType<typeof startChain>>;

/** A regtest chain whose miner's key is ours: blocks, payments, replacements and reorganizations on demand. */
export async function startChain(tools: Tools, folder: string) {
  const [rpc_port = 0, listen_port = 0] = await freePorts(2);
  const file = join(folder, 'chain.json');
  const kept = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Kept) : null;
  const key = kept ? Buffer.from(kept.key, 'hex') : randomBytes(32);
  const { address } = lockOf(key);
  const access: ChainAccess = {
    rpc_port,
    rpc_cert: join(folder, 'rpc.cert'),
    user: 'regtest',
    password: randomBytes(16).toString('hex'),
  };
  const args = argsOf(folder, access, { listen_port, address });
  const program = startProgram(tools.btcd, args, join(folder, 'btcd.log'));
  const rpc = async <T>(method: string, ...params: unknown[]): Promise<T> => {
    const [result] = await call<T>(access, [{ method, params }]);
    return result as T;
  };
  await eventually(() => rpc('getblockcount'));
  if (kept) {
    await call(
      access,
      kept.blocks.map((block) => ({ method: 'submitblock', params: [block] })),
    );
  } else await rpc('generate', FIRST_BLOCKS);

  const { pay, replace } = createFaucet(rpc, key);
  return {
    access,
    rpc,
    mine: (count = 1) => rpc<string[]>('generate', count),
    height: () => rpc<number>('getblockcount'),
    /** Pays from the faucet, into the mempool. */
    pay,
    /** Replaces an unconfirmed payment of the faucet (BIP 125), paying elsewhere. */
    replace,
    /** Undoes the last `depth` blocks and mines one more than that; `dropped` payments are spent otherwise. */
    async reorg(depth: number, dropped: readonly Paid[] = []): Promise<void> {
      const height = await rpc<number>('getblockcount');
      await rpc('invalidateblock', await rpc<string>('getblockhash', height - depth + 1));
      for (const paid of dropped) await replace(paid);
      await rpc('generate', depth + 1);
    },
    /** Writes down all blocks: what starts in a copy of the folder goes on from here. */
    async keep(): Promise<void> {
      const blocks = await allBlocks(access, await rpc<number>('getblockcount'));
      writeFileSync(file, JSON.stringify({ key: key.toString('hex'), blocks } satisfies Kept));
    },
    mempool: () => rpc<string[]>('getrawmempool'),
    stop: () => program.end('SIGKILL'),
  };
}

interface Call {
  method: string;
  params: readonly unknown[];
}
type Answer<T> = { result: T; error: { message: string } | null };

/** Makes calls in one request; their results in order. Fails with the first that failed. */
function call<T>(access: ChainAccess, calls: readonly Call[]): Promise<T[]> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port: access.rpc_port,
        method: 'POST',
        auth: `${access.user}:${access.password}`,
        ca: readFileSync(access.rpc_cert),
        headers: { 'content-type': 'application/json' },
        agent: false,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          try {
            const answers = JSON.parse(text) as Answer<T>[];
            const at = answers.findIndex(({ error }) => error);
            if (at >= 0) reject(new Error(`${calls[at]?.method}: ${answers[at]?.error?.message}`));
            else resolve(answers.map(({ result }) => result));
          } catch {
            reject(new Error(`${calls[0]?.method}: ${response.statusCode} ${text}`));
          }
        });
      },
    );
    sent.on('error', reject);
    sent.end(JSON.stringify(calls.map((one, id) => ({ jsonrpc: '2.0', id, ...one }))));
  });
}
