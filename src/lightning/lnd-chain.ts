import { buildTransaction, type LndChainDeps } from './lnd-build.ts';
import { bytesOf, failureOf, inTurns, type LndClient } from './lnd-client.ts';
import {
  blockHeight,
  listLeases,
  NO_BLOCK,
  ownOutputs,
  sumOf,
  walletTransactions,
  type Lease,
  type LndTransaction,
} from './lnd-lists.ts';
import type { BuildRequest, ChainTransaction } from './node.ts';

// The node's chain wallet: addresses for receives, what came to them, and transactions on their way out. payments/scan.ts
// reads it whenever the node says that something changed, and every 10 s, since it may not say so.

const ADDRESSES_AT_ONCE = 16;
// What a backend says of a transaction whose inputs another one has spent.
const CONFLICT = /double spend|already spent|orphan|missing|inputs? .*spent|not found|replacement/i;
// Unconfirmed receipts are probed at most this often, so many at a time.
const PROBE_MS = 10_000;
const PROBES = 50;

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
      const [transactions, leases] = await Promise.all([
        walletTransactions(client, NO_BLOCK),
        listLeases(client),
      ]);
      const conflicted = await gone(transactions);
      const spent = new Set(
        transactions.flatMap((transaction) => transaction.previous_outpoints.map(({ outpoint }) => outpoint)),
      );
      const isFree = ({ outpoint }: Lease) => !spent.has(`${outpoint.txid_str}:${outpoint.output_index}`);
      return {
        conflicted_sats: sumOf(
          transactions.filter(({ tx_hash }) => conflicted.has(tx_hash)).map(({ amount }) => amount),
        ),
        reserved_sats: sumOf(leases.filter(isFree).map(({ value }) => value)),
      };
    },
    buildTransaction: (request: BuildRequest) => buildTransaction(deps, request),
    async broadcast(raw: string, reference: string): Promise<void> {
      const refusal = await publish(client, { tx_hex: bytesOf(raw), label: reference });
      // lnd takes one that its backend knows or has in a block already, so that repeating is harmless.
      if (refusal !== '') throw new Error(refusal);
    },
    newAddresses: (references: readonly string[]) =>
      inTurns(references, ADDRESSES_AT_ONCE, async () => {
        const { address } = await client.ask<{ address: string }>('default', 'newAddress', {
          type: 'WITNESS_PUBKEY_HASH',
        });
        return address;
      }),
    async transactions(since_height: number) {
      const [tip_height, transactions] = await Promise.all([
        blockHeight(client),
        walletTransactions(client, since_height),
      ]);
      const conflicted = await gone(transactions);
      return {
        tip_height,
        transactions: transactions.filter(({ tx_hash }) => !conflicted.has(tx_hash)).map(shown),
      };
    },
  };
}

/** Offers signed bytes to the node's chain backend; answers why it would not have them, or an empty text. */
async function publish(client: LndClient, request: { tx_hex: Buffer; label?: string }): Promise<string> {
  return (await client.ask<{ publish_error: string }>('wallet', 'publishTransaction', request)).publish_error;
}

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
    // Our own sends (negative amounts) are not probed: their bytes are broadcast again by whoever follows them.
    const now = performance.now();
    const waiting = transactions.filter(
      ({ num_confirmations, amount }) => num_confirmations === 0 && !amount.startsWith('-'),
    );
    const present = new Set(waiting.map(({ tx_hash }) => tx_hash));
    for (const tx_id of asked.keys()) if (!present.has(tx_id)) asked.delete(tx_id);
    const due = waiting.filter(({ tx_hash }) => now - (asked.get(tx_hash)?.at ?? -Infinity) > PROBE_MS);
    await inTurns(due.slice(0, PROBES), PROBES, async ({ tx_hash, raw_tx_hex }) => {
      const told = await publish(client, { tx_hex: bytesOf(raw_tx_hex) }).catch(
        (error: unknown) => failureOf(error).details,
      );
      asked.set(tx_hash, { at: now, gone: CONFLICT.test(told) });
    });
    return new Set([...asked].flatMap(([tx_id, known]) => (known.gone ? [tx_id] : [])));
  };
}
