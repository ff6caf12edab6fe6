import { credit, type Counterpart } from '../ledger/ledger.ts';
import type { Invoice, SettledInvoice } from '../lightning/node.ts';
import { expectState } from './settle.ts';
import { refOf, type Payment, type PaymentError, type PaymentRef, type Receipt } from './types.ts';
import type { Command, KeyClaim, Work } from './work.ts';
import { Superseded } from './writer.ts';

/** generating -> receiving: what can be handed to the payer is stored, and found by its hash and address. */
export function generatedCommand(
  receive: Payment,
  made: { invoice: Invoice | null; address: string | null },
): Command<Payment> {
  const ref = refOf(receive);
  const claims: KeyClaim[] = [];
  const { node_id } = receive;
  if (made.invoice) claims.push({ ...ref, node_id, kind: 'invoice', key: made.invoice.payment_hash });
  if (made.address !== null) claims.push({ ...ref, node_id, kind: 'address', key: made.address });
  return {
    payments: [ref],
    claims,
    moves_money: false,
    decide(work) {
      const payment = expectState(work, ref, ['generating']);
      if (!claims.every((claim) => work.holdsClaim(claim))) {
        throw new Error(`payment ${ref.id}: the node gave out an invoice or address a second time`);
      }
      payment.payment_request = made.invoice?.payment_request ?? null;
      payment.payment_hash = made.invoice?.payment_hash ?? null;
      payment.address = made.address;
      work.move(payment, 'receiving', 'generated');
      work.job(payment, { kind: 'expire', run_at: payment.expires_at ?? payment.updated_at, mine: false });
      return payment;
    },
  };
}

/** generating -> failed: the node never made the invoice, and will not. */
export const failReceiveCommand = (ref: PaymentRef, error: PaymentError): Command<void> => ({
  payments: [ref],
  moves_money: false,
  decide(work) {
    work.move(expectState(work, ref, ['generating']), 'failed', 'failed', error);
    const payment = work.payment(ref);
    if (payment) work.job(payment, null);
  },
});

/** receiving -> expired, unless something is on its way: an unconfirmed output. */
export const expireCommand = (ref: PaymentRef, look_again_at: string): Command<boolean> => ({
  payments: [ref],
  moves_money: false,
  outputs: true,
  decide(work) {
    const payment = expectState(work, ref, ['receiving']);
    const awaited = work.outputs.some(({ payment_id, state }) => payment_id === ref.id && state === 'seen');
    if (awaited) {
      work.job(payment, { kind: 'expire', run_at: look_again_at, mine: false });
      return false;
    }
    const error = { type: 'expired', detail: 'not paid in time' };
    work.move(payment, 'expired', 'expired', error);
    work.job(payment, null);
    return true;
  },
});

/** Puts off an expiry whose node could not be asked, or holds the payment. */
export const postponeCommand = (ref: PaymentRef, run_at: string): Command<void> => ({
  payments: [ref],
  moves_money: false,
  decide(work) {
    work.job(expectState(work, ref, ['receiving']), { kind: 'expire', run_at, mine: false });
  },
});

/**
 * Books money that came in: credits the wallet, adds the receipt and moves the receive on.
 * Whatever its state, the money is the wallet's (semantics.md section 3, "Late and odd money").
 */
export function creditReceive(
  work: Work,
  payment: Payment,
  amount: bigint,
  from: Counterpart | null,
  receipt: (credit_id: string) => Receipt,
): void {
  const account = work.wallet(payment.organization_id, payment.wallet_id);
  const credit_id = credit(work.posting, account, amount, from, { payment_id: payment.id, at: work.time() });
  payment.receipts = [...payment.receipts, receipt(credit_id)];
  payment.credited += amount;
  work.tell(payment, 'succeeded');
  const reached = payment.amount === null || payment.credited >= payment.amount;
  if (payment.state === 'completed' || !reached) {
    work.record(payment, 'partially_received');
    return;
  }
  payment.error = null;
  work.move(payment, 'completed', 'completed');
  work.job(payment, null);
}

/** An invoice of ours was settled at its node: credited once, whoever tells it and how often. */
export function creditInvoiceCommand(
  receive: PaymentRef,
  node_id: string,
  settled: SettledInvoice,
): Command<Payment> {
  const ref = refOf(receive);
  const claim: KeyClaim = {
    ...ref,
    node_id,
    kind: 'credit',
    key: settled.payment_hash,
    settle_index: settled.settle_index,
  };
  return {
    payments: [ref],
    claims: [claim],
    moves_money: true,
    decide(work) {
      const payment = work.payment(ref);
      if (!payment) throw new Error(`receive ${ref.id} of a settled invoice is missing`);
      if (!work.holdsClaim(claim))
        throw new Superseded(`invoice ${settled.payment_hash} was credited before`);
      creditReceive(work, payment, settled.amount_msats, { node_id, kind: 'channels' }, (ledger_id) => ({
        type: 'lightning',
        preimage: settled.preimage,
        payment_hash: settled.payment_hash,
        ledger_id,
      }));
      return payment;
    },
  };
}
