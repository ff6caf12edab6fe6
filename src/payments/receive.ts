import { timeText } from '../core/clock.ts';
import { toMsats } from '../core/money.ts';
import { centsDown, formatRate } from '../core/rate.ts';
import { credit, resume, suspend, type Counterpart } from '../ledger/ledger.ts';
import type { Invoice, SettledInvoice } from '../lightning/node.ts';
import type { Market } from '../quotes/rates.ts';
import { isTooLittle, principalWithin, worthOfMore } from './amounts.ts';
import { expectState } from './settle.ts';
import {
  refOf,
  type LockedQuote,
  type OwnedRef,
  type Payment,
  type PaymentError,
  type PaymentRef,
  type Receipt,
} from './types.ts';
import type { Command, KeyClaim, Work } from './work.ts';
import { Superseded } from './writer.ts';

// How a receive is made, paid and ended: the commands, pure. Money that came is credited in whatever state it meets the
// receive, and once: a key of `payment_keys` per invoice or output says that it was (threat 7).

/** generating -> receiving: what can be handed to the payer is stored, and found by its hash and address. */
export function generatedCommand(
  receive: Payment,
  made: { invoice: Invoice | null; address: string | null },
): Command<Payment> {
  const claims: KeyClaim[] = [];
  const own = { ...refOf(receive), node_id: receive.node_id };
  if (made.invoice) claims.push({ ...own, kind: 'invoice', key: made.invoice.payment_hash });
  if (made.address !== null) claims.push({ ...own, kind: 'address', key: made.address });
  return {
    payments: [receive],
    claims,
    moves_money: false,
    decide(work) {
      const payment = expectState(work, receive, ['generating']);
      // Money is found by these keys: two receives behind one would each be told of the other's.
      if (!claims.every((claim) => work.holdsClaim(claim))) {
        throw new Error(`payment ${receive.id}: the node gave out an invoice or address a second time`);
      }
      payment.payment_request = made.invoice?.payment_request ?? null;
      payment.payment_hash = made.invoice?.payment_hash ?? null;
      payment.address = made.address;
      work.move(payment, 'receiving');
      rest(work, payment, payment.updated_at);
      return payment;
    },
  };
}

/** generating -> failed: the node never made the invoice, and will not. */
export const failReceiveCommand = (ref: PaymentRef, error: PaymentError): Command<void> => ({
  payments: [ref],
  moves_money: false,
  decide(work) {
    work.move(expectState(work, ref, ['generating']), 'failed', error);
  },
});

const NOT_PAID_IN_TIME: PaymentError = { type: 'expired', detail: 'not paid in time' };

/**
 * receiving -> expired, unless something is on its way: an unconfirmed output. Its invoice is cancelled at the node by
 * then, so nobody outside can pay what is shown as expired.
 */
export const expireCommand = (ref: PaymentRef, look_again_at: string): Command<boolean> => ({
  payments: [ref],
  moves_money: false,
  outputs: true,
  decide(work) {
    const payment = expectState(work, ref, ['receiving']);
    const awaited = work.outputs.some(({ payment_id, state }) => payment_id === ref.id && state === 'seen');
    if (awaited) {
      work.job(payment, 'expire', look_again_at);
      return false;
    }
    work.move(payment, 'expired', NOT_PAID_IN_TIME);
    // Late money may have come while this was on its way: its exchange is not put off for that.
    rest(work, payment, payment.updated_at, lateOf(payment) > 0n);
    return true;
  },
});

/** Puts off an expiry whose node could not be asked, or holds the payment. */
export const postponeCommand = (ref: PaymentRef, run_at: string): Command<void> => ({
  payments: [ref],
  moves_money: false,
  decide(work) {
    work.job(expectState(work, ref, ['receiving']), 'expire', run_at);
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
  receipt: Receipt,
): void {
  const account = work.wallet(payment);
  const reason = work.reason(payment);
  // What was too little before goes along with more; what came late has its own rate.
  const remainder = payment.suspended - lateOf(payment);
  payment.received += msats;
  payment.receipts.push(receipt);
  const late = payment.quote !== null && taken_at_ms > Date.parse(payment.quote.expires_at ?? '');
  if (late || isTooLittle(payment, msats + remainder)) {
    suspend(work.posting, account, msats, from, reason);
    payment.suspended += msats;
    work.touch(payment);
    return rest(work, payment, reason.at, late || lateOf(payment) > 0n);
  }
  resume(work.posting, account, remainder, null, reason);
  payment.suspended -= remainder;
  const exchanged = msats + remainder;
  book(work, payment, {
    worth: worthOfMore(payment, exchanged),
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

/**
 * The next job of a receive that nobody works on. `late`: money has just come, or waits still, that came after its quote
 * had ended; it is exchanged as soon as there is a rate, before the receive may expire. Without it the receive expires in
 * its time, and then what waits in suspense is tried again, with a pause: a rate that is not there now will not be at once.
 */
function rest(work: Work, payment: Payment, at: string, late = false): void {
  if (late) work.job(payment, 'exchange', at);
  else if (payment.state === 'receiving') work.job(payment, 'expire', payment.expires_at ?? at);
  else if (payment.suspended > 0n)
    work.job(payment, 'exchange', timeText(Date.parse(at) + REMAINDER_PAUSE_MS));
  else work.job(payment, null);
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
  const gross = payment.gross + money.worth;
  const credited = principalWithin(payment, gross);
  const amount = credited - payment.credited;
  const income = { amount, processing_fee: money.worth - amount, rail_msats: money.came };
  const reason = work.reason(payment);
  const credit_id = credit(work.posting, work.wallet(payment), income, money.from, reason);
  payment.gross = gross;
  payment.credited = credited;
  payment.receipts = payment.receipts.map((receipt) =>
    money.covers(receipt) ? { ...receipt, ledger_id: credit_id } : receipt,
  );
  if (money.quote) {
    payment.exchanges.push({
      ledger_id: credit_id,
      quote_id: money.quote_id,
      quote: money.quote,
      btc_msats: money.exchanged.toString(),
      usd_cents: money.worth.toString(),
    });
  }
  // Each time that money came, also a part of it or more than was asked for; `completed` is told by the move, once.
  work.tell(payment, 'succeeded');
  const reached = payment.payable === null || payment.received - payment.suspended >= payment.payable;
  if (payment.state === 'completed' || !reached) {
    work.record(payment, 'partially_received');
    return;
  }
  payment.error = null;
  work.move(payment, 'completed');
  rest(work, payment, reason.at, lateOf(payment) > 0n);
}

/** What came and was not credited yet: an output that is not confirmed has not come. */
const isUncredited = (receipt: Receipt): boolean =>
  receipt.ledger_id === null && !(receipt.type === 'onchain' && receipt.pending);

/** Whether the chain took an output only after the receive's quote had ended. */
const isLate = ({ quote }: Payment, receipt: Receipt): boolean =>
  receipt.type === 'onchain' &&
  quote !== null &&
  (receipt.mined_at ?? 0) * 1000 > Date.parse(quote.expires_at ?? '');

/** msats in suspense that the chain took after the quote had ended. Receipts of Lightning do not say when they came. */
const lateOf = (payment: Payment): bigint =>
  payment.receipts
    .filter((receipt) => receipt.type === 'onchain')
    .filter((receipt) => isUncredited(receipt) && isLate(payment, receipt))
    .reduce((sum, receipt) => sum + toMsats(BigInt(receipt.amount_sats)), 0n);

/** Exchanges what waits in suspense at the market's rate; what is below a cent goes on waiting. */
export const exchangeCommand = (ref: PaymentRef, market: Market): Command<void> => ({
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
      if (over) work.move(payment, 'expired', NOT_PAID_IN_TIME);
      return rest(work, payment, at);
    }
    resume(work.posting, work.wallet(payment), exchanged, null, work.reason(payment));
    payment.suspended = 0n;
    // Before it is booked: that moves on a receive which is complete by it.
    rest(work, payment, at);
    const { quoted_at } = market;
    book(work, payment, {
      worth,
      exchanged,
      came: 0n,
      from: null,
      quote_id: null,
      quote: {
        from: 'btc',
        to: payment.currency,
        rate: formatRate(market.rate),
        quoted_at,
        expires_at: null,
      },
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
  const { amount_msats, settled_at_ms, settle_index, preimage, payment_hash } = settled;
  const claim: KeyClaim = { ...refOf(receive), node_id, kind: 'credit', key: payment_hash, settle_index };
  return {
    payments: [receive],
    claims: [claim],
    moves_money: true,
    decide(work) {
      const payment = work.payment(receive);
      if (!payment) throw new Error(`receive ${receive.id} of a settled invoice is missing`);
      // The node tells a settlement again after every connection, and every comparison finds it again.
      if (!work.holdsClaim(claim)) throw new Superseded(`invoice ${payment_hash} was credited before`);
      const from = { node_id, kind: 'channels' } as const;
      const receipt: Receipt = { type: 'lightning', preimage, payment_hash, ledger_id: null };
      creditReceive(work, payment, amount_msats, from, settled_at_ms, receipt);
      return payment;
    },
  };
}
