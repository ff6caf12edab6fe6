import { request } from 'node:https';
import { readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { p2wpkh, Transaction } from '@scure/btc-signer';
import secp256k1 from 'secp256k1';
import { eventually, freePorts } from './ports.ts';
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
  raw: string;
  coin: Coin;
  fee_sats: bigint;
}

export type Chain = Awaited<ReturnType<typeof startChain>>;

/** A regtest chain whose miner's key is ours: blocks, payments, replacements and reorganizations on demand. */
export async function startChain(tools: Tools, folder: string) {
  const [rpc_port = 0, listen_port = 0] = await freePorts(2);
  const key = randomBytes(32);
  const own = p2wpkh(secp256k1.publicKeyCreate(key, true), REGTEST);
  const address = own.address ?? '';
  const access: ChainAccess = {
    rpc_port,
    rpc_cert: join(folder, 'rpc.cert'),
    user: 'regtest',
    password: randomBytes(16).toString('hex'),
  };
  const program = startProgram(
    tools.btcd,
    [
      '--regtest',
      '--txindex',
      '--configfile=/dev/null',
      `--datadir=${join(folder, 'data')}`,
      `--logdir=${join(folder, 'logs')}`,
      `--rpcuser=${access.user}`,
      `--rpcpass=${access.password}`,
      `--rpclisten=127.0.0.1:${rpc_port}`,
      `--listen=127.0.0.1:${listen_port}`,
      `--rpccert=${access.rpc_cert}`,
      `--rpckey=${join(folder, 'rpc.key')}`,
      `--miningaddr=${address}`,
      // Nothing is relayed anywhere: what a wallet offers is taken at any fee rate.
      '--minrelaytxfee=0.00001',
    ],
    join(folder, 'btcd.log'),
  );
  const rpc = <T>(method: string, ...params: unknown[]): Promise<T> => call<T>(access, method, params);
  await eventually(() => rpc('getblockcount'));
  await rpc('generate', FIRST_BLOCKS);

  // Each old coinbase is spent once; change is left behind.
  let next_height = 1;
  async function coin(): Promise<Coin> {
    if (next_height > SPENDABLE) throw new Error('the faucet is empty');
    const hash = await rpc<string>('getblockhash', next_height);
    next_height += 1;
    const block = await rpc<{ tx: string[] }>('getblock', hash, 1);
    const tx = await rpc<{ vout: { value: number }[] }>('getrawtransaction', block.tx[0], 1);
    return { txid: block.tx[0] ?? '', amount_sats: BigInt(Math.round((tx.vout[0]?.value ?? 0) * 1e8)) };
  }

  /** Signs a spend of a coin; the change goes back to the miner. */
  function sign(spent: Coin, outputs: readonly Output[], fee_sats: bigint): Paid {
    const transaction = new Transaction();
    transaction.addInput({
      txid: spent.txid,
      index: 0,
      sequence: REPLACEABLE,
      witnessUtxo: { script: own.script, amount: spent.amount_sats },
    });
    for (const output of outputs) transaction.addOutputAddress(output.address, output.amount_sats, REGTEST);
    const given = outputs.reduce((sum, { amount_sats }) => sum + amount_sats, 0n);
    transaction.addOutputAddress(address, spent.amount_sats - given - fee_sats, REGTEST);
    transaction.sign(key);
    transaction.finalize();
    return { tx_id: transaction.id, raw: transaction.hex, coin: spent, fee_sats };
  }

  async function broadcast(paid: Paid): Promise<Paid> {
    await rpc('sendrawtransaction', paid.raw);
    return paid;
  }

  return {
    access,
    rpc,
    mine: (count = 1) => rpc<string[]>('generate', count),
    height: () => rpc<number>('getblockcount'),
    /** Pays from the faucet, into the mempool. */
    pay: async (...outputs: Output[]) => broadcast(sign(await coin(), outputs, FEE_SATS)),
    /** Replaces an unconfirmed payment of the faucet (BIP 125), paying elsewhere. */
    replace: (old: Paid, ...outputs: Output[]) => broadcast(sign(old.coin, outputs, old.fee_sats * 4n)),
    /** Undoes the last `depth` blocks and mines one more than that; `dropped` payments are spent otherwise. */
    async reorg(depth: number, dropped: readonly Paid[] = []): Promise<void> {
      const height = await rpc<number>('getblockcount');
      await rpc('invalidateblock', await rpc<string>('getblockhash', height - depth + 1));
      for (const paid of dropped) await broadcast(sign(paid.coin, [], paid.fee_sats * 4n));
      await rpc('generate', depth + 1);
    },
    mempool: () => rpc<string[]>('getrawmempool'),
    stop: () => program.end('SIGKILL'),
  };
}

function call<T>(access: ChainAccess, method: string, params: readonly unknown[]): Promise<T> {
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
            const answer = JSON.parse(text) as { result: T; error: { message: string } | null };
            if (answer.error) reject(new Error(`${method}: ${answer.error.message}`));
            else resolve(answer.result);
          } catch {
            reject(new Error(`${method}: ${response.statusCode} ${text}`));
          }
        });
      },
    );
    sent.on('error', reject);
    sent.end(JSON.stringify({ jsonrpc: '1.0', id: 1, method, params }));
  });
}
