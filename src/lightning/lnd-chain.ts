import { createHash } from 'node:crypto';
import { RawTx, Transaction } from '@scure/btc-signer';
import type { BuildRequest, BuiltTransaction, ChainOutput, ChainParams, ChainTransaction } from './node.ts';
import { checkAddress } from './address.ts';
import { bytesOf, failureOf, hexOf, isLinkFailure, type LndClient } from './lnd-client.ts';
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

interface Lease {
  id: Uint8Array;
  outpoint: { txid_bytes: Uint8Array; txid_str: string; output_index: number };
  value: string;
}

/** Blocks within which a transaction should confirm; the fastest that fits under the cap is taken. */
const TARGETS = [6, 36, 144] as const;
/** The inputs of a stored transaction stay reserved while it waits to be broadcast. */
const LEASE_SECONDS = 10 * 24 * 3600;
const ADDRESSES_AT_ONCE = 16;
const INSUFFICIENT = /insufficient funds|insufficient input|not enough/i;
// What a backend says of a transaction whose inputs another one has spent.
const CONFLICT = /double spend|already spent|orphan|missing|inputs? .*spent|not found|replacement/i;
// Unconfirmed receipts are probed at most this often, so many at a time.
const PROBE_MS = 10_000;
const PROBES = 50;
/** No block is this high: asked from here on, lnd lists what is unconfirmed. */
const NO_BLOCK = 2 ** 31 - 1;

/** The lock under which a payment's inputs are reserved: the same payment finds its own again. */
const lockOf = (reference: string): Buffer => createHash('sha256').update(`coulomb ${reference}`).digest();

export interface LndChainDeps {
  client: LndClient;
  chain(): ChainParams;
}

/** What the port asks of a node's chain wallet, on lnd. */
export function lndChain({ client, chain }: LndChainDeps) {
  async function releaseLeases(id: Buffer): Promise<void> {
    const { locked_utxos } = await client.ask<{ locked_utxos: Lease[] }>('wallet', 'listLeases', {});
    for (const lease of locked_utxos.filter((other) => id.equals(other.id))) {
      await client.ask('wallet', 'releaseOutput', { id, outpoint: lease.outpoint });
    }
  }

  async function fund(request: BuildRequest, sat_per_kw: bigint, id: Buffer) {
    const funded = await client.ask<{ funded_psbt: Uint8Array; locked_utxos: Lease[] }>(
      'wallet',
      'fundPsbt',
      {
        raw: { outputs: { [request.address]: request.amount_sats.toString() } },
        sat_per_kw: sat_per_kw.toString(),
        min_confs: 1,
        change_type: 'CHANGE_ADDRESS_TYPE_P2TR',
        custom_lock_id: id,
        lock_expiration_seconds: LEASE_SECONDS,
      },
    );
    const inputs = funded.locked_utxos.reduce((sum, { value }) => sum + BigInt(value), 0n);
    const psbt = Transaction.fromPSBT(Uint8Array.from(funded.funded_psbt), { allowUnknownOutputs: true });
    let outputs = 0n;
    for (let index = 0; index < psbt.outputsLength; index += 1) outputs += psbt.getOutput(index).amount ?? 0n;
    return { psbt: funded.funded_psbt, fee_sats: inputs - outputs };
  }

  async function finish(
    request: BuildRequest,
    psbt: Uint8Array,
    fee_sats: bigint,
  ): Promise<BuiltTransaction> {
    const { raw_final_tx } = await client.ask<{ raw_final_tx: Uint8Array }>('wallet', 'finalizePsbt', {
      funded_psbt: psbt,
    });
    const raw = hexOf(raw_final_tx);
    const checked = checkAddress(request.address, chain());
    if (!checked.ok) throw new Error(`not an address of the node's chain: ${request.address}`);
    const decoded = RawTx.decode(Uint8Array.from(raw_final_tx));
    const vout = decoded.outputs.findIndex(
      ({ script, amount }) => hexOf(script) === checked.script && amount === request.amount_sats,
    );
    if (vout < 0) throw new Error('the node built a transaction without the output that was asked for');
    return { state: 'built', tx_id: transactionId(raw), vout, raw, fee_sats };
  }

  async function build(request: BuildRequest): Promise<BuiltTransaction> {
    const id = lockOf(request.reference);
    let best: { fee_sats: bigint; target: number } | null = null;
    for (const target of TARGETS) {
      const { sat_per_kw } = await client.ask<{ sat_per_kw: string }>('wallet', 'estimateFee', {
        conf_target: target,
      });
      await releaseLeases(id);
      const funded = await fund(request, BigInt(sat_per_kw), id);
      if (funded.fee_sats <= request.max_fee_sats) return finish(request, funded.psbt, funded.fee_sats);
      best = { fee_sats: funded.fee_sats, target };
    }
    await releaseLeases(id);
    return {
      state: 'failed',
      code: 'broadcast_fee_above_max',
      detail: `the transaction would cost ${best?.fee_sats} sats, the cap is ${request.max_fee_sats}`,
      context: {
        estimated_fee_sats: Number(best?.fee_sats),
        max_fee_sats: Number(request.max_fee_sats),
        target_blocks: best?.target,
      },
    };
  }

  /** Whether change that is still unconfirmed would suffice: then the payment waits for it. */
  async function hasMoneyLater(amount_sats: bigint): Promise<boolean> {
    const balance = await client.ask<{ total_balance: string }>('default', 'walletBalance', { min_confs: 0 });
    return BigInt(balance.total_balance) > amount_sats;
  }

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
    async buildTransaction(request: BuildRequest): Promise<BuiltTransaction> {
      try {
        return await build(request);
      } catch (error) {
        const failure = failureOf(error);
        if (isLinkFailure(failure)) return { state: 'later', detail: failure.details };
        if (INSUFFICIENT.test(failure.details) && (await hasMoneyLater(request.amount_sats))) {
          return { state: 'later', detail: failure.details };
        }
        if (/permission denied/i.test(failure.details)) {
          return { state: 'failed', code: 'node_permission_denied', detail: failure.details };
        }
        return { state: 'failed', code: 'transaction_build_failed', detail: failure.details };
      }
    },
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

/** The id of a signed transaction. */
const transactionId = (raw: string): string =>
  Transaction.fromRaw(bytesOf(raw), { allowUnknownOutputs: true, allowUnknownInputs: true }).id;

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
