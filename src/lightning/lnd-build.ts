import { createHash } from 'node:crypto';
import { RawTx, Transaction } from '@scure/btc-signer';
import { checkAddress } from './address.ts';
import { transactionId } from './block.ts';
import { failureOf, hexOf, isLinkFailure, type LndClient } from './lnd-client.ts';
import { listLeases } from './lnd-lists.ts';
import type { BuildRequest, BuiltTransaction, ChainParams } from './node.ts';

// How lnd makes the transaction of an on-chain send. It is signed here and stored by the caller before anything is
// broadcast: were the node to fund and send in one call, an answer that got lost would leave a payment that nobody
// knows by its id (threat 12). A process that dies in between leaves inputs reserved, and nothing else.

export interface LndChainDeps {
  client: LndClient;
  chain(): ChainParams;
}

/** Blocks within which a transaction should confirm; the fastest that fits under the cap is taken. */
const TARGETS = [6, 36, 144] as const;
/** The inputs of a stored transaction stay reserved while it waits to be broadcast; lnd's own lease ends after 10 min. */
const LEASE_SECONDS = 10 * 24 * 3600;
const INSUFFICIENT = /insufficient funds|insufficient input|not enough/i;

/** The lock under which a payment's inputs are reserved: the same payment finds its own again. */
const lockOf = (reference: string): Buffer => createHash('sha256').update(`coulomb ${reference}`).digest();

/** Builds and signs a transaction whose inputs stay reserved for this payment; says why where it cannot. */
export async function buildTransaction(deps: LndChainDeps, request: BuildRequest): Promise<BuiltTransaction> {
  try {
    return await build(deps, request);
  } catch (error) {
    const failure = failureOf(error);
    // Nothing was broadcast, so nothing can be lost by asking again; a fault of our own waits here, too, and is logged.
    if (isLinkFailure(failure)) return { state: 'later', detail: failure.details };
    if (INSUFFICIENT.test(failure.details) && (await hasMoneyLater(deps.client, request.amount_sats))) {
      return { state: 'later', detail: failure.details };
    }
    if (/permission denied/i.test(failure.details)) {
      return { state: 'failed', code: 'node_permission_denied', detail: failure.details };
    }
    return { state: 'failed', code: 'transaction_build_failed', detail: failure.details };
  }
}

async function releaseLeases(client: LndClient, id: Buffer): Promise<void> {
  for (const lease of await listLeases(client)) {
    if (id.equals(lease.id)) await client.ask('wallet', 'releaseOutput', { id, outpoint: lease.outpoint });
  }
}

async function fund(client: LndClient, request: BuildRequest, sat_per_kw: bigint, id: Buffer) {
  const { funded_psbt } = await client.ask<{ funded_psbt: Uint8Array }>('wallet', 'fundPsbt', {
    raw: { outputs: { [request.address]: request.amount_sats.toString() } },
    sat_per_kw: sat_per_kw.toString(),
    // An input that is unconfirmed may be replaced, and the stored bytes could then never confirm.
    min_confs: 1,
    change_type: 'CHANGE_ADDRESS_TYPE_P2TR',
    custom_lock_id: id,
    lock_expiration_seconds: LEASE_SECONDS,
  });
  // What its inputs are worth stands in it, since a signer that is offline must know, too.
  const { fee } = Transaction.fromPSBT(Uint8Array.from(funded_psbt), { allowUnknownOutputs: true });
  return { psbt: funded_psbt, fee_sats: fee };
}

async function finish(
  { client, chain }: LndChainDeps,
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
  // Found by what was asked for: the wallet puts its change before or behind it.
  const vout = decoded.outputs.findIndex(
    ({ script, amount }) => hexOf(script) === checked.script && amount === request.amount_sats,
  );
  if (vout < 0) throw new Error('the node built a transaction without the output that was asked for');
  return { state: 'built', tx_id: transactionId(raw), vout, raw, fee_sats };
}

async function build(deps: LndChainDeps, request: BuildRequest): Promise<BuiltTransaction> {
  const { client } = deps;
  const id = lockOf(request.reference);
  let fee_sats = 0n;
  for (const conf_target of TARGETS) {
    const wanted = { conf_target };
    const { sat_per_kw } = await client.ask<{ sat_per_kw: string }>('wallet', 'estimateFee', wanted);
    // What a dearer try reserved, or a process that died before its transaction was stored: that one is void.
    await releaseLeases(client, id);
    const funded = await fund(client, request, BigInt(sat_per_kw), id);
    if (funded.fee_sats <= request.max_fee_sats) return finish(deps, request, funded.psbt, funded.fee_sats);
    fee_sats = funded.fee_sats;
  }
  await releaseLeases(client, id);
  return {
    state: 'failed',
    code: 'broadcast_fee_above_max',
    detail: `the transaction would cost ${fee_sats} sats, the cap is ${request.max_fee_sats}`,
    context: {
      estimated_fee_sats: Number(fee_sats),
      max_fee_sats: Number(request.max_fee_sats),
      target_blocks: TARGETS.at(-1),
    },
  };
}

/** Whether change that is still unconfirmed would suffice: then the payment waits for it. */
async function hasMoneyLater(client: LndClient, amount_sats: bigint): Promise<boolean> {
  const balance = await client.ask<{ total_balance: string }>('default', 'walletBalance', { min_confs: 0 });
  return BigInt(balance.total_balance) > amount_sats;
}
