import type { LightningNode, PayRequest, SendOutcome } from '../lightning/node.ts';
import { amountOf, decodeInvoice } from '../lightning/bolt11.ts';
import { toSats } from '../core/money.ts';
import { chainDispatchCommand } from './chain.ts';
import { advance, advanceAll, confirmationsOn, later, PAUSE_MS, type Engine, type Step } from './engine.ts';
import { attentionRow, raiseAttention } from './records.ts';
import { dispatchCommand, failSendCommand, settleSendCommand, type Handover } from './settle.ts';
import { callKey, hashOf, isOnChain, refKey, sendFailed, type Payment } from './types.ts';

// How sends reach their node. `dispatched` is committed before the call, so a process that dies anywhere here leaves either
// a send that was never called, or one that `recover.ts` asks about; and no error on the way is taken for an outcome.

/** A decision to call is acted on within this time, or not at all: the call's deadline counts from it. */
const CALL_WITHIN_MS = 5000;

/** With what a new send goes to its node in the commit that holds its money; null where it has to wait for the node. */
export const handoverTo = (engine: Engine, node: LightningNode): Handover | null =>
  node.reachable()
    ? { track_at: later(engine, PAUSE_MS.track), history: engine.histories.of(node.id) }
    : null;

/** Hands sends that waited to their node: first the state is committed, only then the node is called. */
export const dispatch: Step = async (engine, node, payments) => {
  const handover = handoverTo(engine, node);
  if (!handover) return waitForNode(engine, payments);
  const decided_at = performance.now();
  const invoiced = payments.filter((payment) => !isOnChain(payment));
  const dispatched = await advanceAll(engine, invoiced, (payment) => dispatchCommand(payment, handover));
  pay(engine, node, dispatched, decided_at);
  await Promise.all(payments.filter(isOnChain).map((payment) => dispatchOnChain(engine, node, payment)));
};

/** When the invoice of a Lightning send expires, ms; never for an address. */
export const invoiceExpiry = (payment: Payment): number =>
  payment.payment_request === null ? Infinity : decodeInvoice(payment.payment_request).expires_at_ms;

/** The node is away and nothing was sent: the sends wait, each until its invoice expires. */
async function waitForNode(engine: Engine, payments: readonly Payment[]): Promise<void> {
  const now_ms = engine.clock.now();
  const over = payments.filter((payment) => invoiceExpiry(payment) <= now_ms);
  const waiting = payments.filter((payment) => !over.includes(payment));
  await engine.jobs.putBack(waiting, PAUSE_MS.retry);
  const error = sendFailed('upstream_failure', 'the node could not be reached before the invoice expired');
  await advanceAll(engine, over, (payment) => failSendCommand(payment, error, ['approved']));
}

/**
 * Calls the node for payments that are `dispatched`; outcomes arrive one by one, later. `decided_at` is when
 * this was decided (`performance.now()`): a process that slept since then leaves the payments to be tracked.
 */
export function pay(
  engine: Engine,
  node: LightningNode,
  payments: readonly Payment[],
  decided_at: number,
): void {
  if (performance.now() - decided_at > CALL_WITHIN_MS) return;
  // Before the call: an answer may come before this function returns, and a call that is not known of may be repeated.
  for (const payment of payments) engine.calls.made(callKey(payment));
  const outcomes = node.pay(payments.map(payRequest));
  payments.forEach((payment, index) => {
    void outcomes[index]
      ?.catch((error: unknown): SendOutcome => ({ state: 'unknown', detail: String(error) }))
      .then((outcome) => {
        // Only a loss leaves it open whether the call can still arrive.
        if (outcome.state !== 'unknown') engine.calls.answered(callKey(payment));
        return applyOutcome(engine, node, payment, outcome);
      })
      // Its track job asks the node again.
      .catch((error: unknown) =>
        engine.log.error({ err: error, payment_id: payment.id }, 'outcome of a send not applied'),
      );
  });
}

const payRequest = (payment: Payment): PayRequest => ({
  payment_hash: hashOf(payment),
  payment_request: payment.payment_request ?? '',
  amount_msats: payment.amount ?? 0n,
  amount_in_invoice: amountOf(payment.payment_request ?? '') !== null,
  max_fee_msats: payment.max_fee ?? 0n,
});

/** Ends a dispatched send as its node says; anything but the node's own terminal word changes nothing. */
export async function applyOutcome(
  engine: Engine,
  node: LightningNode,
  payment: Payment,
  outcome: SendOutcome,
): Promise<void> {
  if (outcome.state === 'settled') {
    if (isOlder(engine, payment, outcome.payment_index)) return raisePaidBefore(engine, payment);
    await advance(engine, payment, settleSendCommand(payment, outcome));
    engine.calls.forget(callKey(payment));
  } else if (outcome.state === 'failed' && engine.calls.over(callKey(payment), node.call_window_ms)) {
    // The last word: no call of ours is on its way that could still pay.
    const error = sendFailed(outcome.code, outcome.detail);
    await advance(engine, payment, failSendCommand(payment, error, ['dispatched'], payment.calls));
    engine.calls.forget(callKey(payment));
  } else {
    await engine.jobs.putBack([payment], outcome.state === 'not_sent' ? PAUSE_MS.retry : PAUSE_MS.track);
  }
}

/** True for a payment of the same hash that the node had before this send was handed to it. */
const isOlder = (engine: Engine, payment: Payment, payment_index: bigint | undefined): boolean =>
  payment_index !== undefined &&
  payment.node_index !== null &&
  payment.node_epoch === engine.histories.of(payment.node_id).epoch &&
  payment_index <= payment.node_index;

/** The operator paid this invoice from the same node, beside Coulomb: whose money it was, no rule can tell. */
async function raisePaidBefore(engine: Engine, payment: Payment): Promise<void> {
  const detail = { node_id: payment.node_id, payment_hash: payment.payment_hash };
  await raiseAttention(engine.db, [attentionRow(payment, 'paid_before', detail)]);
  await engine.jobs.putBack([payment], PAUSE_MS.broadcast);
}

async function dispatchOnChain(engine: Engine, node: LightningNode, payment: Payment): Promise<void> {
  const built = await node.buildTransaction({
    // The node knows the transaction by this name. Asked for again after a death, it makes void what it had built: only
    // bytes that were stored are ever broadcast, and there is one set of them (threat 12).
    reference: refKey(payment),
    address: payment.address ?? '',
    amount_sats: toSats(payment.amount ?? 0n),
    max_fee_sats: toSats(payment.max_fee ?? 0n),
  });
  if (built.state === 'later') {
    engine.log.info({ payment_id: payment.id, reason: built.detail }, 'transaction not built yet');
    return engine.jobs.putBack([payment], PAUSE_MS.long);
  }
  if (built.state === 'failed') {
    const error = sendFailed(built.code, built.detail, built.context);
    await advance(engine, payment, failSendCommand(payment, error, ['approved']));
    return;
  }
  const command = chainDispatchCommand(
    payment,
    built,
    confirmationsOn(engine, node),
    later(engine, PAUSE_MS.track),
  );
  const stored = await advance(engine, payment, command);
  if (stored) await broadcastStored(engine, node, [stored]);
}

/** Broadcasts the stored bytes of dispatched on-chain sends, again and again until they confirm. */
export const broadcastStored: Step = async (engine, node, payments) => {
  for (const payment of payments) {
    const [stored] = await engine.db.query<{ raw: string }>(
      `SELECT raw FROM chain_sends WHERE organization_id = $1 AND environment_id = $2 AND payment_id = $3`,
      [payment.organization_id, payment.environment_id, payment.id],
      'read chain send',
    );
    if (!stored) throw new Error(`payment ${payment.id} is dispatched without a transaction`);
    // A transaction that was taken may still fall out of mempools: it is offered again until it is in the chain.
    let pause_ms: number = PAUSE_MS.broadcast;
    try {
      await node.broadcast(stored.raw, refKey(payment));
    } catch (error) {
      pause_ms = PAUSE_MS.long;
      engine.log.warn({ err: error, payment_id: payment.id }, 'broadcast failed, will be repeated');
    }
    await engine.jobs.putBack([payment], pause_ms);
  }
};
