import { creditReceive } from './receive.ts';
import { captureSend, expectState } from './settle.ts';
import { heldAt, type Payment, type PaymentRef } from './types.ts';
import type { Command } from './work.ts';

/**
 * The last step of an internal payment: its receive was claimed and, where it has an invoice, the node
 * confirmed that nobody outside can pay that any more. Debit, credit and both ends in one transaction.
 */
export const settleInternalCommand = (send: PaymentRef, receive: PaymentRef): Command<Payment> => ({
  payments: [send, receive],
  moves_money: true,
  decide(work) {
    const payment = expectState(work, send, ['claiming']);
    const target = work.payment(receive);
    if (!target) throw new Error(`receive ${receive.id} of internal payment ${send.id} is missing`);
    const amount = payment.amount ?? 0n;
    const from = work.wallet(payment);
    const to = work.wallet(target);
    const direct = from.organization_id === to.organization_id && from.node_id === to.node_id;
    captureSend(work, payment, 0n, direct ? { wallet: to } : { node_id: from.node_id, kind: 'channels' });
    payment.receipts = [shortcircuit(amount, target.id, payment.hold_id)];
    work.move(payment, 'completed');
    creditReceive(
      work,
      target,
      amount,
      // Between organizations or nodes each one's share of the node accounts moves too, so that
      // every organization's entries sum to zero alone.
      direct ? null : { node_id: to.node_id, kind: 'channels' },
      // It was claimed, and with that taken, when the send was held.
      Date.parse(heldAt(payment)),
      shortcircuit(amount, payment.id, null),
    );
    return payment;
  },
});

const shortcircuit = (amount: bigint, offset_payment_id: string, ledger_id: string | null) => ({
  type: 'shortcircuit' as const,
  amount_msats: amount.toString(),
  offset_payment_id,
  ledger_id,
});
