import { divideUp, minOf, MSATS_PER_SAT } from '../core/money.ts';
import { centsDown, centsUp, msatsUp, readRate, type Rate } from '../core/rate.ts';
import type { Cost } from '../ledger/ledger.ts';
import type { Kind, Payment } from './types.ts';

// What a payment costs and brings in its wallet's currency. On the rail everything is msats; a wallet of dollars
// sees it through the rate of its quote. What is paid rounds up and what is credited rounds down, each once for the
// whole, so that no sum of parts beats it.

const BASIS = 10_000n;

/** A processing fee of `bps` basis points on a principal, rounded up; in the principal's base units. */
export const feeOn = (principal: bigint, bps: number): bigint => divideUp(principal * BigInt(bps), BASIS);

const rateOf = (payment: Pick<Payment, 'quote'>): Rate | null =>
  payment.quote ? readRate(payment.quote.rate) : null;

/** A rail amount as the payment shows it: in the wallet's currency, rounded up. */
export function shownAmount(payment: Payment, msats: bigint): bigint {
  const rate = rateOf(payment);
  return rate ? centsUp(rate, msats) : msats;
}

/** What a send costs its wallet with this network fee (msats): rounded once, so that the parts add up. */
export function costOf(payment: Payment, network_fee: bigint): Cost {
  const rate = rateOf(payment);
  const amount = payment.amount ?? 0n;
  const { processing_fee } = payment;
  if (!rate) return { principal: amount, network_fee, processing_fee };
  const principal = centsUp(rate, amount);
  const sent = centsUp(rate, amount + network_fee);
  const all = centsUp(rate, amount + network_fee + processing_fee);
  return { principal, network_fee: sent - principal, processing_fee: all - sent };
}

export const totalOf = (cost: Cost): bigint => cost.principal + cost.network_fee + cost.processing_fee;

/** What a fixed receive asks for: the principal, the fee on it, and what the payer pays on the rail. */
export interface Asked {
  /** Principal on the rail, msats. */
  amount: bigint;
  /** In the currency of the principal. */
  processing_fee: bigint;
  /** msats, whole sats where an address may be paid. */
  payable: bigint;
}

const wholeSats = (msats: bigint): bigint => divideUp(msats, MSATS_PER_SAT) * MSATS_PER_SAT;

/** The terms of a receive of `principal` msats; a total that an address may receive is whole sats. */
export function askBitcoin(principal: bigint, bps: number, kind: Kind): Asked {
  const exact = principal + feeOn(principal, bps);
  const payable = kind === 'bolt11' ? exact : wholeSats(exact);
  return { amount: principal, processing_fee: payable - principal, payable };
}

/** The terms of a receive of `principal` cents at a rate: bitcoin rounds up, to whole sats unless told otherwise. */
export function askDollars(principal: bigint, bps: number, rate: Rate, precision: 'sats' | 'msats'): Asked {
  const round = precision === 'sats' ? wholeSats : (msats: bigint) => msats;
  const processing_fee = feeOn(principal, bps);
  return {
    amount: round(msatsUp(rate, principal)),
    processing_fee,
    payable: round(msatsUp(rate, principal + processing_fee)),
  };
}

/** The principal that a fixed receive was asked for, in its wallet's currency; null for any amount. */
export const askedOf = (payment: Payment): bigint | null => payment.requested ?? payment.amount;

/** Worth, in the wallet's currency and at the quote's rate, of so many msats in all. */
function worthOf(payment: Payment, msats: bigint): bigint {
  const rate = rateOf(payment);
  if (!rate) return msats;
  const payable = payment.payable ?? 0n;
  const total = (askedOf(payment) ?? 0n) + payment.processing_fee;
  // What was asked for is worth what was asked, however the conversion was rounded.
  if (msats >= payable) return total + centsDown(rate, msats - payable);
  return minOf(total, centsDown(rate, msats));
}

/** The principal within `gross`: the rest is the fee, which a payment in parts never raises. */
export function principalWithin(payment: Payment, gross: bigint): bigint {
  const bps = BigInt(payment.fee_bps);
  const asked = askedOf(payment);
  if (asked === null) return gross;
  const part = (amount: bigint): bigint => (amount * BASIS) / (BASIS + bps);
  const total = asked + payment.processing_fee;
  return gross >= total ? asked + part(gross - total) : minOf(asked, part(gross));
}

/** msats of a receive that were exchanged at its own quote's rate. */
const atQuote = (payment: Payment): bigint =>
  payment.exchanges
    .filter(({ quote_id }) => quote_id !== null)
    .reduce((sum, { btc_msats }) => sum + BigInt(btc_msats), 0n);

/** What so many more msats are worth by the payment's own terms, in the wallet's currency. */
export function worthOfMore(payment: Payment, msats: bigint): bigint {
  const before = atQuote(payment);
  return worthOf(payment, before + msats) - worthOf(payment, before);
}

/**
 * Whether so many more msats are too little to exchange: worth less than a cent, and not the last of what was asked,
 * which is worth what was asked, however the conversion was rounded.
 */
export function isTooLittle(payment: Payment, msats: bigint): boolean {
  if (payment.quote === null || worthOfMore(payment, msats) > 0n) return false;
  const before = atQuote(payment);
  const payable = payment.payable ?? 0n;
  return before >= payable || before + msats < payable;
}
