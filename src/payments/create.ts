import { ApiError } from '../core/errors.ts';
import { hold, availableOf } from '../ledger/ledger.ts';
import { costOf, totalOf } from './amounts.ts';
import { countedSend, refusedReceive, refusedSend, type Recipient } from './limits.ts';
import { mayPromote, promote, targetRef } from './promote.ts';
import { handOver, type Handover } from './settle.ts';
import type { Target, WalletFacts } from './store.ts';
import { termsOf, type Terms } from './terms.ts';
import {
  heldAt,
  isOnChain,
  receiveFailed,
  refOf,
  sendFailed,
  type Draft,
  type JobKind,
  type Payment,
  type PaymentError,
  type PaymentRef,
} from './types.ts';
import type { Command, KeyClaim, Work } from './work.ts';

// The command that makes a payment. Asked by the routes, once the request alone was judged; what depends on the wallet, on
// other payments or on a quote is judged here, under their locks. Refuses before it changes anything, or writes it all.

/** Where a request came in: a check is judged and holds nothing, a treasury movement bears no processing fee. */
export type Endpoint = 'payments' | 'check' | 'treasury';

/** A sound request, with what was looked up for it. */
export interface NewPayment {
  id: string;
  endpoint: Endpoint;
  wallet: WalletFacts;
  draft: Draft;
  metadata: Record<string, string> | null;
  quote_id: string | null;
  /** Whether the request says a fee cap itself. */
  gives_max_fee: boolean;
  /** What the sanctions list says of the address that it pays. */
  recipient: Recipient;
  /** The receive of this deployment that it pays, if it may be settled inside. */
  target: Target | null;
  /** How a Lightning send goes to its node in this same commit; null where that has to wait. */
  handover: Handover | null;
  now_ms: number;
}

/** A payment that was made. */
export interface Created {
  payment: Payment;
  /** When it was decided to hand it to its node, if it was (`performance.now()`): the call is to follow soon. */
  decided_at: number;
}

/** The contract reserves this description: it fails a receive as a reflex policy would, for compliance tests. */
const COMPLIANCE_DESCRIPTION = 'VOLTAGE_COMPLIANCE_550e8400-e29b-41d4-a716-446655440000';

const REJECTED = receiveFailed('rejected', 'refused by policy');
const INSUFFICIENT_FUNDS: PaymentError = {
  type: 'hold_failed',
  code: 'insufficient_funds',
  detail: 'the wallet has less available than amount and fees',
};
const FEE_ON_ANY_AMOUNT = receiveFailed(
  'invalid_payment_amount',
  'a receive that bears a processing fee needs a fixed amount',
);
const HASH_IN_USE = sendFailed(
  'invalid_bolt11_invoice',
  'a payment of this invoice is under way or was made',
);
const NOT_PAYABLE = sendFailed('invalid_bolt11_invoice', 'the invoice cannot be paid any more');

const FIRST_JOB: Partial<Record<Payment['state'], JobKind>> = {
  generating: 'generate',
  approved: 'dispatch',
  claiming: 'internal',
};

/** The job of a payment that was just made; null where nothing is left to do, or its node is called already. */
export const firstJob = ({ state }: Payment): JobKind | null => FIRST_JOB[state] ?? null;

/**
 * The command that makes a payment: row, hold, job and history in one transaction. A send whose node is there is
 * handed over in it, too: what is committed before the node is called is that it may have been called.
 * An approved check of the same id is the payment's beginning. Refuses with `payment_exists` (409),
 * `invalid_payment` (disabled line, deleted wallet), or what its terms refuse.
 */
export function createCommand(request: NewPayment): Command<Created> {
  const { wallet, draft } = request;
  const ref = refOf({ ...wallet, id: request.id });
  const wallet_ref = { organization_id: wallet.organization_id, id: wallet.id };
  const sending = draft.direction === 'send';
  const claim: KeyClaim | null =
    sending && request.endpoint !== 'check' && draft.payment_hash !== null
      ? // The hash is in use at the node where the money would arrive: inside, that of the receive.
        { ...ref, node_id: request.target?.node_id ?? wallet.node_id, kind: 'send', key: draft.payment_hash }
      : null;
  return {
    payments: request.target ? [ref, request.target] : [ref],
    wallets: sending ? [wallet_ref] : [],
    peeks: sending ? [] : [wallet_ref],
    claims: claim ? [claim] : [],
    quotes: request.quote_id === null ? [] : [{ ...ref, id: request.quote_id }],
    moves_money: false,
    decide(work) {
      const giveBack = () => {
        if (claim && work.holdsClaim(claim)) work.dropClaim(claim);
      };
      try {
        const payment = make(work, ref, request, claim);
        // What was refused at once used nothing up: its key and its quote serve another try.
        if (payment.state === 'failed') giveBack();
        else work.consumeQuote(payment);
        return { payment, decided_at: performance.now() };
      } catch (error) {
        giveBack();
        throw error;
      }
    },
  };
}

/** The payment, with the first step on its way; or the row of one that failed at once. */
function make(work: Work, ref: PaymentRef, request: NewPayment, claim: KeyClaim | null): Payment {
  const terms = judge(work, ref, request);
  const check = work.payment(ref);
  const payment = check ? promote(work, check, request, terms) : newRow(work, request, ref, terms);
  if (!check) {
    work.create(payment);
    work.record(payment, 'requested');
  }
  if (payment.direction === 'send') startSend(work, payment, claim, request);
  else startReceive(work, payment);
  return payment;
}

export const paymentExists = (payment_id: string): ApiError =>
  new ApiError('payment_exists', `payment ${payment_id} exists`, { context: { payment_id } });

/** Refuses what cannot be made now, or fixes the terms on which it is made. */
function judge(work: Work, ref: PaymentRef, request: NewPayment): Terms {
  const { wallet, quote_id } = request;
  const known = work.payment(ref);
  if (known && !mayPromote(known, request)) throw paymentExists(ref.id);
  const account = work.look({ organization_id: wallet.organization_id, id: wallet.id });
  if (!account || account.deleted_at !== null)
    throw new ApiError('invalid_payment', 'wallet_id: no such wallet');
  if (account.line_disabled) throw new ApiError('invalid_payment', "the wallet's line of credit is disabled");
  const quote = quote_id === null ? undefined : work.quote({ ...ref, id: quote_id });
  return termsOf({ ...request, account, quote });
}

function newRow(work: Work, request: NewPayment, ref: PaymentRef, terms: Terms): Payment {
  const { draft, wallet, endpoint } = request;
  const created_at = work.time();
  return {
    ...ref,
    ...draft,
    ...terms,
    wallet_id: wallet.id,
    line_of_credit_id: wallet.line_of_credit_id,
    node_id: wallet.node_id,
    category: endpoint === 'treasury' ? 'treasury' : 'standard',
    check_only: endpoint === 'check',
    promoted_at: null,
    currency: wallet.currency,
    state: draft.direction === 'send' ? 'checked' : 'generating',
    network_fee: null,
    exchanges: [],
    received: 0n,
    suspended: 0n,
    gross: 0n,
    credited: 0n,
    hold_id: null,
    hold_amount: null,
    target: targetRef(request),
    receipts: [],
    frozen: null,
    error: null,
    metadata: request.metadata,
    node_index: null,
    node_epoch: null,
    calls: 0,
    last_position: 0,
    created_at,
    updated_at: created_at,
  };
}

function startReceive(work: Work, payment: Payment): void {
  const fail = (error: PaymentError) => work.move(payment, 'failed', error);
  if (payment.description === COMPLIANCE_DESCRIPTION) return fail(REJECTED);
  const account = work.look({ organization_id: payment.organization_id, id: payment.wallet_id });
  const refusal = account ? refusedReceive(payment.amount, account) : null;
  if (refusal) return fail(refusal);
  if (payment.payable === null && payment.fee_bps > 0) return fail(FEE_ON_ANY_AMOUNT);
  work.job(payment, firstJob(payment));
}

function startSend(work: Work, payment: Payment, claim: KeyClaim | null, request: NewPayment): void {
  const { target } = request;
  const fail = (error: PaymentError) => work.move(payment, 'failed', error);
  const account = work.wallet(payment);
  // A check is judged again when it becomes a payment: it reserved nothing.
  const refusal = refusedSend(payment.amount ?? 0n, account, work.usages.of(account), request.recipient);
  if (refusal) return fail(refusal);
  if (payment.promoted_at === null) work.record(payment, 'approved');
  if (payment.check_only) return;
  const held = totalOf(costOf(payment, payment.max_fee ?? 0n));
  if (availableOf(account) < held) return fail(INSUFFICIENT_FUNDS);
  if (claim && !work.holdsClaim(claim)) return fail(HASH_IN_USE);
  const receive = target ? work.payment(target) : undefined;
  if (target && claim && (!receive || !isPayable(receive, payment))) return fail(NOT_PAYABLE);
  payment.hold_id = hold(work.posting, account, held, work.reason(payment));
  payment.hold_amount = held;
  work.usages.add(account, countedSend(payment));
  // Paid inside: the key of its hash is the claim on the receive's invoice, which is cancelled at its node
  // before anything settles (semantics.md section 3). An address stays payable: nothing needs to be cancelled.
  work.move(payment, receive ? 'claiming' : 'approved');
  if (!receive && request.handover && !isOnChain(payment)) handOver(work, payment, request.handover);
  else work.job(payment, firstJob(payment));
}

function isPayable(receive: Payment, send: Payment): boolean {
  return (
    receive.state === 'receiving' &&
    receive.payment_hash === send.payment_hash &&
    receive.expires_at !== null &&
    receive.expires_at > heldAt(send) &&
    (receive.kind !== 'bolt11' || receive.received === 0n)
  );
}
