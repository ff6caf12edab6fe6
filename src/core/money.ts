/** Currency codes of the contract: `btc` in msats, `usd` in cents, `asset:<group key>` in base units. */
export type Currency = string;

/** A satoshi in the unit of Lightning; on-chain there are whole sats only. */
export const MSATS_PER_SAT = 1000n;
export const MSATS_PER_BTC = 100_000_000_000n;

/** 21 million BTC in msats: more bitcoin than there will ever be. */
export const MAX_BTC_MSATS = 2_100_000_000_000_000_000n;

/** The most cents of one payment or quote: ten trillion dollars, far below what a balance can hold. */
export const MAX_CENTS = 1_000_000_000_000_000n;

/** The largest limit of a line or wallet, in base units (semantics.md section 1). */
export const MAX_LIMIT = 2_100_000_000_000_000_000n;

/** An integer as it stands in parsed JSON: exact, a bigint only where a number could not hold it. */
export type WireInteger = number | bigint;

/** The wire form of an amount: absolute value, `negative` only where the schema has it. */
export interface WireAmount {
  currency: Currency;
  amount: bigint;
  unit: string;
}

/** The unit that the contract derives from a currency. */
function unitOf(currency: Currency): string {
  if (currency === 'btc') return 'msats';
  return currency === 'usd' ? 'cents' : 'base units';
}

/** An `Amount` of a response. */
export const wireAmount = (currency: Currency, amount: bigint): WireAmount => ({
  currency,
  amount,
  unit: unitOf(currency),
});

/** A `SignedAmount` of a response: absolute amount plus `negative`. */
export const signedAmount = (currency: Currency, amount: bigint): WireAmount & { negative: boolean } => ({
  ...wireAmount(currency, amount < 0n ? -amount : amount),
  negative: amount < 0n,
});

/** Whole sats of an msats amount, rounded down: a caller that must not lose the rest has checked that there is none. */
export const toSats = (msats: bigint): bigint => msats / MSATS_PER_SAT;

/** The msats of whole sats, exact. */
export const toMsats = (sats: bigint): bigint => sats * MSATS_PER_SAT;

/** `numerator / denominator` rounded up; both positive. */
export const divideUp = (numerator: bigint, denominator: bigint): bigint =>
  (numerator + denominator - 1n) / denominator;

/** The greater: `Math.max` takes no bigint. */
export const maxOf = (a: bigint, b: bigint): bigint => (a > b ? a : b);
/** The lesser, likewise. */
export const minOf = (a: bigint, b: bigint): bigint => (a < b ? a : b);
