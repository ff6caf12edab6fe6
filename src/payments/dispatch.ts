import type { LightningNode, PayRequest, SendOutcome } from '../lightning/node.ts';
import { toSats } from '../core/money.ts';
import { chainDispatchCommand } from './chain.ts';
import { attempt, later, nodeOf, PAUSE_MS, type Engine } from './engine.ts';
import { dispatchCommand, failSendCommand, sendFailed, settleSendCommand } from './settle.ts';
import { isOnChain, refKey, refOf, type Payment } from './types.ts';

/** Hands approved sends to their node: first the state is committed, only then the node is called. */
export async function dispatch(engine: Engine, payments: readonly Payment[]): Promise<void> {
  const track_at = later(engine, PAUSE_MS.track);
  const dispatched = await Promise.all(
    payments
      .filter((payment) => !isOnChain(payment))
      .map((payment) =>
        attempt(engine, payment, engine.writer.advance(dispatchCommand(refOf(payment), track_at))),
      ),
  );
  pay(
    engine,
    dispatched.filter((payment) => payment !== undefined),
  );
  await Promise.all(payments.filter(isOnChain).map((payment) => dispatchOnChain(engine, payment)));
}

/** Calls the node for payments that are `dispatched`; outcomes arrive one by one, later. */
export function pay(engine: Engine, payments: readonly Payment[]): void {
  const [first] = payments;
  if (!first) return;
  const outcomes = nodeOf(engine, first.node_id).pay(payments.map(payRequest));
  payments.forEach((payment, index) => {
    const outcome = outcomes[index];
    if (outcome) void outcome.then((end) => applyOutcome(engine, payment, end));
  });
}

const payRequest = (payment: Payment): PayRequest => ({
  payment_hash: payment.payment_hash ?? '',
  payment_request: payment.payment_request ?? '',
  amount_msats: payment.amount ?? 0n,
  max_fee_msats: payment.max_fee ?? 0n,
});

/** Ends a dispatched send as its node says; anything but the node's own terminal word changes nothing. */
export async function applyOutcome(engine: Engine, payment: Payment, outcome: SendOutcome): Promise<void> {
  if (outcome.state === 'settled') {
    await attempt(engine, payment, engine.writer.advance(settleSendCommand(refOf(payment), outcome)));
  } else if (outcome.state === 'failed') {
    const error = sendFailed(outcome.code, outcome.detail);
    await attempt(
      engine,
      payment,
      engine.writer.advance(failSendCommand(refOf(payment), error, ['dispatched'])),
    );
  } else {
    await engine.jobs.putBack([refOf(payment)], later(engine, PAUSE_MS.track));
  }
}

async function dispatchOnChain(engine: Engine, payment: Payment): Promise<void> {
  const node = nodeOf(engine, payment.node_id);
  const built = await node.buildTransaction({
    reference: refKey(payment),
    address: payment.address ?? '',
    amount_sats: toSats(payment.amount ?? 0n),
    max_fee_sats: toSats(payment.max_fee ?? 0n),
  });
  if (built.state === 'failed') {
    const error = sendFailed(built.code, built.detail, built.context);
    await attempt(
      engine,
      payment,
      engine.writer.advance(failSendCommand(refOf(payment), error, ['approved'])),
    );
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
    try {
      await node.broadcast(stored.raw);
    } catch (error) {
      engine.log.warn({ err: error, payment_id: payment.id }, 'broadcast failed, will be repeated');
    }
    await engine.jobs.putBack([refOf(payment)], later(engine, PAUSE_MS.long));
  }
}
