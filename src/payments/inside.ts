import { advance, PAUSE_MS, type Engine, type Step } from './engine.ts';
import { settleInternalCommand } from './internal.ts';
import { failSendCommand } from './settle.ts';
import { hashOf, isOnChain, sendFailed, type Payment } from './types.ts';

/**
 * Finishes internal payments: the claimed receives' invoices are cancelled at their node in one call,
 * and only where the node confirms is the payment settled inside.
 */
export const settleInside: Step = async (engine, _node, payments) => {
  const invoiced = payments.filter((payment) => !isOnChain(payment));
  await Promise.all(payments.filter(isOnChain).map((payment) => finish(engine, payment, 'cancelled')));
  const byNode = Map.groupBy(invoiced, (payment) => payment.target?.node_id ?? '');
  await Promise.all(
    [...byNode].map(async ([node_id, group]) => {
      const node = engine.nodes.get(node_id);
      if (!node) throw new Error(`node ${node_id} is not configured on this server`);
      const outcomes = await node.cancelInvoices(group.map(hashOf));
      await Promise.all(group.map((payment, index) => finish(engine, payment, outcomes[index] ?? 'unknown')));
    }),
  );
};

async function finish(engine: Engine, payment: Payment, outcome: string): Promise<void> {
  const { target } = payment;
  if (!target) throw new Error(`internal payment ${payment.id} has no receive`);
  if (outcome === 'unknown') {
    await engine.jobs.putBack([payment], PAUSE_MS.retry);
  } else if (outcome === 'cancelled') {
    await advance(engine, payment, settleInternalCommand(payment, target));
  } else {
    const error = sendFailed('invalid_bolt11_invoice', 'the invoice was paid from outside first');
    await advance(engine, payment, failSendCommand(payment, error, ['claiming']));
  }
}
