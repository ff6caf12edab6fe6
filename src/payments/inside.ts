import { attempt, later, nodeOf, PAUSE_MS, type Engine } from './engine.ts';
import { settleInternalCommand } from './internal.ts';
import { failSendCommand, sendFailed } from './settle.ts';
import { isOnChain, refOf, type Payment } from './types.ts';

/**
 * Finishes internal payments: the claimed receives' invoices are cancelled at their node in one call,
 * and only where the node confirms is the payment settled inside.
 */
export async function settleInside(engine: Engine, payments: readonly Payment[]): Promise<void> {
  const invoiced = payments.filter((payment) => !isOnChain(payment));
  await Promise.all(payments.filter(isOnChain).map((payment) => finish(engine, payment, 'cancelled')));
  const byNode = Map.groupBy(invoiced, (payment) => payment.target?.node_id ?? '');
  await Promise.all(
    [...byNode].map(async ([node_id, group]) => {
      const outcomes = await nodeOf(engine, node_id).cancelInvoices(
        group.map(({ payment_hash }) => payment_hash ?? ''),
      );
      await Promise.all(group.map((payment, index) => finish(engine, payment, outcomes[index] ?? 'unknown')));
    }),
  );
}

async function finish(engine: Engine, payment: Payment, outcome: string): Promise<void> {
  const { target } = payment;
  if (!target) throw new Error(`internal payment ${payment.id} has no receive`);
  if (outcome === 'unknown') {
    await engine.jobs.putBack([refOf(payment)], later(engine, PAUSE_MS.retry));
  } else if (outcome === 'cancelled') {
    await attempt(
      engine,
      payment,
      engine.writer.advance(settleInternalCommand(refOf(payment), refOf(target))),
    );
  } else {
    const error = sendFailed('invalid_bolt11_invoice', 'the invoice was paid from outside first');
    await attempt(engine, payment, engine.writer.advance(failSendCommand(payment, error, ['claiming'])));
  }
}
