import type { LightningNode, PayRequest, SendOutcome } from '../lightning/node.ts';
import { amountOf, decodeInvoice } from '../lightning/bolt11.ts';
import { toSats } from '../core/money.ts';
import { raiseAttention } from './attention.ts';
import { chainDispatchCommand } from './chain.ts';
import { attempt, later, nodeOf, PAUSE_MS, type Engine } from './engine.ts';
import { dispatchCommand, failSendCommand, sendFailed, settleSendCommand, type Handover } from './settle.ts';
import { callKey, isOnChain, refKey, refOf, type Payment } from './types.ts';

/** A decision to call is acted on within this time, or not at all: the call's deadline counts from it. */
const CALL_WITHIN_MS = 5000;

/** With what a new send goes to its node in the commit that holds its money; null where it has to wait for the node. */
export const handoverTo = (engine: Engine, node: LightningNode): Handover | null =>
  node.reachable()
    ? { track_at: later(engine, PAUSE_MS.track), history: engine.histories.of(node.id) }
    : null;

/** Hands sends that waited to their node: first the state is committed, only then the node is called. */
export async function dispatch(engine: Engine, payments: readonly Payment[]): Promise<void> {
  const [first] = payments;
  if (!first) return;
  const node = nodeOf(engine, first.node_id);
  const handover = handoverTo(engine, node);
  if (!handover) return waitForNode(engine, payments);
  const decided_at = performance.now();
  const dispatched = await Promise.all(
    payments
      .filter((payment) => !isOnChain(payment))
      .map((payment) =>
        attempt(engine, payment, engine.writer.advance(dispatchCommand(refOf(payment), handover))),
      ),
  );
  pay(
    engine,
    dispatched.filter((payment) => payment !== undefined),
    decided_at,
  );
  await Promise.all(payments.filter(isOnChain).map((payment) => dispatchOnChain(engine, node, payment)));
}

/** When the invoice of a Lightning send expires, ms; never for an address. */
export const invoiceExpiry = (payment: Payment): number =>
  payment.payment_request === null ? Infinity : decodeInvoice(payment.payment_request).expires_at_ms;

/** The node is away and nothing was sent: the sends wait, each until its invoice expires. */
async function waitForNode(engine: Engine, payments: readonly Payment[]): Promise<void> {
  const now_ms = engine.clock.now();
  const over = payments.filter((payment) => invoiceExpiry(payment) <= now_ms);
  const waiting = payments.filter((payment) => !over.includes(payment));
  await engine.jobs.putBack(waiting.map(refOf), later(engine, PAUSE_MS.retry));
  const error = sendFailed('upstream_failure', 'the node could not be reached before the invoice expired');
  await Promise.all(
    over.map((payment) =>
      attempt(engine, payment, engine.writer.advance(failSendCommand(payment, error, ['approved']))),
    ),
  );
}

/**
 * Calls the node for payments that are `dispatched`; outcomes arrive one by one, later. `decided_at` is when
 * this was decided (`performance.now()`): a process that slept since then leaves the payments to be tracked.
 */
export function pay(engine: Engine, payments: readonly Payment[], decided_at: number): void {
  const [first] = payments;
  if (!first || performance.now() - decided_at > CALL_WITHIN_MS) return;
  for (const payment of payments) engine.calls.made(callKey(payment));
  const outcomes = nodeOf(engine, first.node_id).pay(payments.map(payRequest));
  payments.forEach((payment, index) => {
    const outcome = outcomes[index];
    if (!outcome) return;
    const told = outcome.catch((error: unknown): SendOutcome => ({
      state: 'unknown',
      detail: String(error),
    }));
    void told.then((end) => applyAnswer(engine, payment, end));
  });
}

const payRequest = (payment: Payment): PayRequest => ({
  payment_hash: payment.payment_hash ?? '',
  payment_request: payment.payment_request ?? '',
  amount_msats: payment.amount ?? 0n,
  amount_in_invoice: amountOf(payment.payment_request ?? '') !== null,
  max_fee_msats: payment.max_fee ?? 0n,
});

/** What a call itself brought: only its loss leaves it open whether it can still arrive. */
function applyAnswer(engine: Engine, payment: Payment, outcome: SendOutcome): Promise<void> {
  if (outcome.state !== 'unknown') engine.calls.answered(callKey(payment));
  return applyOutcome(engine, payment, outcome);
}

/** Ends a dispatched send as its node says; anything but the node's own terminal word changes nothing. */
export async function applyOutcome(engine: Engine, payment: Payment, outcome: SendOutcome): Promise<void> {
  if (outcome.state === 'settled') {
    if (isOlder(engine, payment, outcome.payment_index)) return raisePaidBefore(engine, payment);
    await attempt(engine, payment, engine.writer.advance(settleSendCommand(payment, outcome)));
    engine.calls.forget(callKey(payment));
  } else if (outcome.state === 'failed' && mayEnd(engine, payment)) {
    const error = sendFailed(outcome.code, outcome.detail);
    await attempt(
      engine,
      payment,
      engine.writer.advance(failSendCommand(payment, error, ['dispatched'], payment.calls)),
    );
    engine.calls.forget(callKey(payment));
  } else {
    const pause_ms = outcome.state === 'not_sent' ? PAUSE_MS.retry : PAUSE_MS.track;
    await engine.jobs.putBack([refOf(payment)], later(engine, pause_ms));
  }
}

/** Whether a failure is the last word: no call of ours is on its way that could still pay. */
const mayEnd = (engine: Engine, payment: Payment): boolean =>
  engine.calls.over(callKey(payment), nodeOf(engine, payment.node_id).call_window_ms);

/** True for a payment of the same hash that the node had before this send was handed to it. */
const isOlder = (engine: Engine, payment: Payment, payment_index: bigint | undefined): boolean =>
  payment_index !== undefined &&
  payment.node_index !== null &&
  payment.node_epoch === engine.histories.of(payment.node_id).epoch &&
  payment_index <= payment.node_index;

/** The operator paid this invoice from the same node, beside Coulomb: whose money it was, no rule can tell. */
async function raisePaidBefore(engine: Engine, payment: Payment): Promise<void> {
  const detail = { node_id: payment.node_id, payment_hash: payment.payment_hash };
  await raiseAttention(engine.db, [
    { ...refOf(payment), payment_id: payment.id, kind: 'paid_before', detail },
  ]);
  await engine.jobs.putBack([refOf(payment)], later(engine, PAUSE_MS.broadcast));
}

async function dispatchOnChain(engine: Engine, node: LightningNode, payment: Payment): Promise<void> {
  const built = await node.buildTransaction({
    reference: refKey(payment),
    address: payment.address ?? '',
    amount_sats: toSats(payment.amount ?? 0n),
    max_fee_sats: toSats(payment.max_fee ?? 0n),
  });
  if (built.state === 'later') {
    engine.log.info({ payment_id: payment.id, reason: built.detail }, 'transaction not built yet');
    return engine.jobs.putBack([refOf(payment)], later(engine, PAUSE_MS.long));
  }
  if (built.state === 'failed') {
    const error = sendFailed(built.code, built.detail, built.context);
    await attempt(engine, payment, engine.writer.advance(failSendCommand(payment, error, ['approved'])));
    return;
  }
  const command = chainDispatchCommand(
    refOf(payment),
    built,
    engine.config.confirmations[node.network] ?? 1,
    later(engine, PAUSE_MS.track),
  );
  const stored = await attempt(engine, payment, engine.writer.advance(command));
  if (stored) await broadcastStored(engine, node, [stored]);
}

interface StoredTransaction {
  payment_id: string;
  raw: string;
}

/** Broadcasts the stored bytes of dispatched on-chain sends, again and again until they confirm. */
export async function broadcastStored(
  engine: Engine,
  node: LightningNode,
  payments: readonly Payment[],
): Promise<void> {
  for (const payment of payments) {
    const [stored] = await engine.db.query<StoredTransaction>(
      `SELECT payment_id, raw FROM chain_sends WHERE organization_id = $1 AND environment_id = $2 AND payment_id = $3`,
      [payment.organization_id, payment.environment_id, payment.id],
      'read chain send',
    );
    if (!stored) throw new Error(`payment ${payment.id} is dispatched without a transaction`);
    let pause_ms: number = PAUSE_MS.broadcast;
    try {
      await node.broadcast(stored.raw, refKey(payment));
    } catch (error) {
      pause_ms = PAUSE_MS.long;
      engine.log.warn({ err: error, payment_id: payment.id }, 'broadcast failed, will be repeated');
    }
    await engine.jobs.putBack([refOf(payment)], later(engine, pause_ms));
  }
}
