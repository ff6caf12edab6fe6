import type { NewPayment } from './create.ts';
import type { Terms } from './terms.ts';
import { refOf, type Payment } from './types.ts';
import type { Work } from './work.ts';

// An approved check becomes a payment, once, through POST /payments with its id and a request that matches it
// (semantics.md section 1, "Replays").

/**
 * Whether a request asks for what was checked: the same wallet, type and data. What it leaves to a default is as
 * the check has it; metadata is a note of the client's and may differ.
 */
export function mayPromote(check: Payment, request: NewPayment): boolean {
  const { draft, endpoint, gives_max_fee } = request;
  return (
    endpoint === 'payments' &&
    check.state === 'checked' &&
    draft.direction === 'send' &&
    check.wallet_id === request.wallet.id &&
    check.kind === draft.kind &&
    check.payment_hash === draft.payment_hash &&
    check.payment_request === draft.payment_request &&
    check.address === draft.address &&
    check.amount === draft.amount &&
    // A quote is used up by the check that names it, and its rate is not held any longer.
    check.quote_id === null &&
    (!gives_max_fee || check.max_fee === draft.max_fee) &&
    (draft.description === null || check.description === draft.description)
  );
}

/**
 * Turns a check into a payment that is about to be held. Its fee is the one that was approved; the quote is the
 * payment's own, since a check exchanges nothing.
 */
export function promote(work: Work, check: Payment, request: NewPayment, terms: Terms): Payment {
  work.promote(check);
  check.quote_id = terms.quote_id;
  check.quote = terms.quote;
  check.target = targetRef(request);
  check.metadata = request.metadata ?? check.metadata;
  return check;
}

/** The receive of this deployment that a send pays. */
export const targetRef = ({ target }: NewPayment): Payment['target'] =>
  target && { ...refOf(target), node_id: target.node_id };
