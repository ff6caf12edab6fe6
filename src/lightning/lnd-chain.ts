import type { BuildRequest, ChainOutput, ChainTransaction } from './node.ts';
import { buildTransaction, type Lease, type LndChainDeps } from './lnd-build.ts';
import { bytesOf, failureOf, type LndClient } from './lnd-client.ts';
import { inTurns } from './lnd-invoices.ts';

export interface LndTransaction {
  tx_hash: string;
  amount: string;
  num_confirmations: number;
  block_height: number;
  time_stamp: string;
  raw_tx_hex: string;
  label: string;
  output_details: { address: string; output_index: string; amount: string; is_our_address: boolean }[];
  previous_outpoints: { outpoint: string }[];
}

const ADDRESSES_AT_ONCE = 16;
// What a backend says of a transaction whose inputs another one has spent.
const CONFLICT = /double spend|already spent|orphan|missing|inputs? .*spent|not found|replacement/i;
// Unconfirmed receipts are probed at most this often, so many at a time.
const PROBE_MS = 10_000;
const PROBES = 50;
/** No block is this high: asked from here on, lnd lists what is unconfirmed. */
const NO_BLOCK = 2 ** 31 - 1;

/** What the port asks of a node's chain wallet, on lnd. */
export function lndChain(deps: LndChainDeps) {
  const { client } = deps;
  const gone = createConflictProbe(client);
  return {
    /**
     * Where the wallet's balance is not its worth; sats. It counts receipts whose inputs were spent otherwise, and
     * leaves out reserved outputs, which are its own until a transaction spends them.
     */
    async corrections(): Promise<{ conflicted_sats: bigint; reserved_sats: bigint }> {
      const [{ transactions }, { locked_utxos }] = await Promise.all([
        client.ask<{ transactions: LndTransaction[] }>('default', 'getTransactions', {
          start_height: NO_BLOCK,
          end_height: -1,
        }),
        client.ask<{ locked_utxos: Lease[] }>('wallet', 'listLeases', {}),
      ]);
      const conflicted = await gone(transactions);
      const spent = new Set(
        transactions.flatMap((transaction) => transaction.previous_outpoints.map(({ outpoint }) => outpoint)),
      );
      const isFree = ({ outpoint }: Lease) => !spent.has(`${outpoint.txid_str}:${outpoint.output_index}`);
      return {
        conflicted_sats: transactions
          .filter(({ tx_hash }) => conflicted.has(tx_hash))
          .reduce((sum, { amount }) => sum + BigInt(amount), 0n),
        reserved_sats: locked_utxos.filter(isFree).reduce((sum, { value }) => sum + BigInt(value), 0n),
      };
    },
    buildTransaction: (request: BuildRequest) => buildTransaction(deps, request),
    async broadcast(raw: string, reference: string): Promise<void> {
      const answer = await client.ask<{ publish_error: string }>('wallet', 'publishTransaction', {
        tx_hex: bytesOf(raw),
        label: reference,
      });
      if (answer.publish_error !== '') throw new Error(answer.publish_error);
    },
    newAddresses: (references: readonly string[]) =>
      inTurns(references, ADDRESSES_AT_ONCE, async () => {
        const { address } = await client.ask<{ address: string }>('default', 'newAddress', {
          type: 'WITNESS_PUBKEY_HASH',
        });
        return address;
      }),
    async transactions(since_height: number) {
      const [{ block_height }, { transactions }] = await Promise.all([
        client.ask<{ block_height: number }>('default', 'getInfo', {}),
        client.ask<{ transactions: LndTransaction[] }>('default', 'getTransactions', {
          start_height: since_height,
          end_height: -1,
        }),
      ]);
      const conflicted = await gone(transactions);
      const known = transactions.filter(({ tx_hash }) => !conflicted.has(tx_hash));
      return { tip_height: block_height, transactions: known.map(shown) };
    },
  };
}

/** The outputs of a transaction that pay the node's own wallet. */
export const ownOutputs = ({ output_details }: LndTransaction): ChainOutput[] =>
  output_details
    .filter((output) => output.is_our_address)
    .map((output) => ({
      vout: Number(output.output_index),
      address: output.address,
      amount_sats: BigInt(output.amount),
    }));

const shown = (transaction: LndTransaction): ChainTransaction => {
  const mined = transaction.num_confirmations > 0;
  return {
    tx_id: transaction.tx_hash,
    height: mined ? transaction.block_height : null,
    mined_at: mined ? Number(transaction.time_stamp) : null,
    outputs: ownOutputs(transaction),
  };
};

/**
 * Finds receipts that will never confirm because their inputs were spent otherwise. lnd's wallet does not notice
 * a conflict that does not pay it, and would list them for ever; its chain backend knows, when they are offered again.
 */
function createConflictProbe(client: LndClient) {
  const asked = new Map<string, { at: number; gone: boolean }>();
  return async (transactions: readonly LndTransaction[]): Promise<ReadonlySet<string>> => {
    const now = performance.now();
    const waiting = transactions.filter(
      ({ num_confirmations, amount }) => num_confirmations === 0 && !amount.startsWith('-'),
    );
    const present = new Set(waiting.map(({ tx_hash }) => tx_hash));
    for (const tx_id of asked.keys()) if (!present.has(tx_id)) asked.delete(tx_id);
    const due = waiting.filter(({ tx_hash }) => now - (asked.get(tx_hash)?.at ?? -Infinity) > PROBE_MS);
    await inTurns(due.slice(0, PROBES), PROBES, async ({ tx_hash, raw_tx_hex }) => {
      const told = await client
        .ask<{ publish_error: string }>('wallet', 'publishTransaction', { tx_hex: bytesOf(raw_tx_hex) })
        .then(
          ({ publish_error }) => publish_error,
          (error: unknown) => failureOf(error).details,
        );
      asked.set(tx_hash, { at: now, gone: CONFLICT.test(told) });
    });
    return new Set([...asked].flatMap(([tx_id, known]) => (known.gone ? [tx_id] : [])));
  };
}
