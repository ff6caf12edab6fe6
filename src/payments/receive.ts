import { timeText } from '../core/clock.ts';
import { toMsats } from '../core/money.ts';
import { centsDown, formatRate, type Rate } from '../core/rate.ts';
import { credit, resume, suspend, type Counterpart } from '../ledger/ledger.ts';
import type { Invoice, SettledInvoice } from '../lightning/node.ts';
import { isTooLittle, principalWithin, worthOfMore } from './amounts.ts';
import { expectState } from './settle.ts';
import {
  refOf,
  ownerOf,
  type LockedQuote,
  type OwnedRef,
  type Payment,
  type PaymentError,
  type PaymentRef,
  type Receipt,
} from './types.ts';
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

const NOT_PAID_IN_TIME: PaymentError = { type: 'expired', detail: 'not paid in time' };

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
    work.move(payment, 'expired', 'expired', NOT_PAID_IN_TIME);
    rest(work, payment, payment.updated_at);
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
 * Whatever its state, the money is the wallet's (semantics.md section 3, "Late and odd money"). What cannot be turned
 * into dollars, because it is worth less than a cent or the node took it after its quote had ended, waits in suspense.
 */
export function creditReceive(
  work: Work,
  payment: Payment,
  msats: bigint,
  from: Counterpart | null,
  taken_at_ms: number,
  receipt: (ledger_id: null) => Receipt,
): void {
  const account = work.wallet(payment.organization_id, payment.wallet_id);
  const reason = { payment_id: payment.id, at: work.time() };
  // What was too little before goes along with more; what came late has its own rate.
  const remainder = payment.suspended - lateOf(payment);
  payment.received += msats;
  payment.receipts = [...payment.receipts, receipt(null)];
  const late = payment.quote !== null && taken_at_ms > Date.parse(payment.quote.expires_at ?? '');
  if (late || isTooLittle(payment, msats + remainder)) {
    suspend(work.posting, account, msats, from, reason);
    payment.suspended += msats;
    work.touch(payment);
    if (late || lateOf(payment) > 0n) exchangeNow(work, payment, reason.at);
    else rest(work, payment, reason.at);
    return;
  }
  resume(work.posting, account, remainder, null, reason);
  payment.suspended -= remainder;
  const exchanged = msats + remainder;
  const worth = worthOfMore(payment, exchanged);
  book(work, payment, {
    worth,
    exchanged,
    came: msats,
    from,
    quote_id: payment.quote_id,
    quote: payment.quote,
    covers: (receipt) => isUncredited(receipt) && !isLate(payment, receipt),
  });
}

/** A rate that makes a cent of what was less than one is waited for; nobody is in a hurry. */
const REMAINDER_PAUSE_MS = 3_600_000;

/** What is left to do for a receive that nobody works on: to expire, or to try again what waits in suspense. */
function rest(work: Work, payment: Payment, at: string): void {
  if (payment.state === 'receiving') {
    return work.job(payment, { kind: 'expire', run_at: payment.expires_at ?? at, mine: false });
  }
  const run_at = timeText(Date.parse(at) + REMAINDER_PAUSE_MS);
  work.job(payment, payment.suspended > 0n ? { kind: 'exchange', run_at, mine: false } : null);
}

interface Booking {
  /** In the wallet's currency. */
  worth: bigint;
  /** msats that it is for, and those of them that come from outside just now. */
  exchanged: bigint;
  came: bigint;
  from: Counterpart | null;
  quote_id: string | null;
  quote: LockedQuote | null;
  /** The receipts of the money that is credited. */
  covers: (receipt: Receipt) => boolean;
}

/** Credits what money is worth, less the processing fee on the whole so far, and moves the receive on. */
function book(work: Work, payment: Payment, money: Booking): void {
  const account = work.wallet(payment.organization_id, payment.wallet_id);
  const gross = payment.gross + money.worth;
  const credited = principalWithin(payment, gross);
  const amount = credited - payment.credited;
  const income = { amount, processing_fee: money.worth - amount, rail_msats: money.came };
  const reason = { payment_id: payment.id, at: work.time() };
  const credit_id = credit(work.posting, account, income, money.from, reason);
  payment.gross = gross;
  payment.credited = credited;
  payment.receipts = payment.receipts.map((receipt) =>
    money.covers(receipt) ? { ...receipt, ledger_id: credit_id } : receipt,
  );
  if (money.quote) {
    const exchange = {
      ledger_id: credit_id,
      quote_id: money.quote_id,
      quote: money.quote,
      btc_msats: money.exchanged.toString(),
      usd_cents: money.worth.toString(),
    };
    payment.exchanges = [...payment.exchanges, exchange];
  }
  work.tell(payment, 'succeeded');
  const reached = payment.payable === null || payment.received - payment.suspended >= payment.payable;
  if (payment.state === 'completed' || !reached) {
    work.record(payment, 'partially_received');
    return;
  }
  payment.error = null;
  work.move(payment, 'completed', 'completed');
  if (lateOf(payment) > 0n) exchangeNow(work, payment, reason.at);
  else rest(work, payment, reason.at);
}

/** Has what came late exchanged as soon as there is a rate. */
const exchangeNow = (work: Work, payment: Payment, at: string): void =>
  work.job(payment, { kind: 'exchange', run_at: at, mine: false });

/** What came and was not credited yet: an output that is not confirmed has not come. */
const isUncredited = (receipt: Receipt): boolean =>
  receipt.ledger_id === null && !(receipt.type === 'onchain' && receipt.pending);

/** Whether the chain took an output only after the receive's quote had ended. */
const isLate = ({ quote }: Payment, receipt: Receipt): boolean =>
  receipt.type === 'onchain' &&
  quote !== null &&
  (receipt.mined_at ?? 0) * 1000 > Date.parse(quote.expires_at ?? '');

/** msats in suspense that came after the quote had ended. */
const lateOf = (payment: Payment): bigint =>
  payment.receipts
    .filter((receipt) => isUncredited(receipt) && isLate(payment, receipt))
    .reduce(
      (sum, receipt) => sum + (receipt.type === 'onchain' ? toMsats(BigInt(receipt.amount_sats)) : 0n),
      0n,
    );

/** Exchanges what waits in suspense at the market's rate; what is below a cent goes on waiting. */
export const exchangeCommand = (
  ref: PaymentRef,
  market: { rate: Rate; quoted_at: string },
): Command<void> => ({
  payments: [ref],
  moves_money: true,
  decide(work) {
    const payment = work.payment(ref);
    if (!payment) throw new Error(`receive ${ref.id} with money in suspense is missing`);
    const exchanged = payment.suspended;
    const worth = centsDown(market.rate, exchanged);
    const at = work.time();
    if (worth === 0n) {
      // All the money that was asked for is here, and is worth less than a cent: nothing more is waited for.
      const over = payment.state === 'receiving' && payment.expires_at !== null && payment.expires_at <= at;
      if (over) work.move(payment, 'expired', 'expired', NOT_PAID_IN_TIME);
      return rest(work, payment, at);
    }
    const account = work.wallet(payment.organization_id, payment.wallet_id);
    resume(work.posting, account, exchanged, null, { payment_id: payment.id, at: work.time() });
    payment.suspended = 0n;
    rest(work, payment, at);
    const quote = {
      from: 'btc',
      to: payment.currency,
      rate: formatRate(market.rate),
      quoted_at: market.quoted_at,
      expires_at: null,
    };
    book(work, payment, {
      worth,
      exchanged,
      came: 0n,
      from: null,
      quote_id: null,
      quote,
      covers: isUncredited,
    });
  },
});

/** An invoice of ours was settled at its node: credited once, whoever tells it and how often. */
export function creditInvoiceCommand(
  receive: OwnedRef,
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
    moves_money: ownerOf(receive),
    decide(work) {
      const payment = work.payment(ref);
      if (!payment) throw new Error(`receive ${ref.id} of a settled invoice is missing`);
      if (!work.holdsClaim(claim))
        throw new Superseded(`invoice ${settled.payment_hash} was credited before`);
      const { amount_msats, settled_at_ms, preimage, payment_hash } = settled;
      creditReceive(
        work,
        payment,
        amount_msats,
        { node_id, kind: 'channels' },
        settled_at_ms,
        (ledger_id) => ({ type: 'lightning', preimage, payment_hash, ledger_id }),
      );
      return payment;
    },
  };
}
