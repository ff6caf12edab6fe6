import { divideUp, MSATS_PER_BTC } from './money.ts';

// Rates between bitcoin and dollars, exact: `<coefficient>e<scale>` on the wire, never a float. A conversion says
// which way it rounds; what a wallet pays rounds up, what it gets rounds down, so no round trip gains.

/** Cents per bitcoin, as `coefficient / 10^scale`. */
export interface Rate {
  coefficient: bigint;
  scale: number;
}

const RATE = /^([1-9]\d{0,27})e(\d{1,2})$/;
const MAX_SCALE = 30;

/** Reads `6500000e0`; null when it is no rate, or not above 0. */
export function parseRate(text: string): Rate | null {
  const [, coefficient, scale] = RATE.exec(text) ?? [];
  if (coefficient === undefined || Number(scale) > MAX_SCALE) return null;
  return { coefficient: BigInt(coefficient), scale: Number(scale) };
}

/** The form on the wire and in the database: `6500000e0`. */
export const formatRate = ({ coefficient, scale }: Rate): string => `${coefficient}e${scale}`;

/** A stored rate, which was checked when it was stored; throws on anything else, as that is a fault of ours. */
export function readRate(text: string): Rate {
  const rate = parseRate(text);
  if (!rate) throw new Error(`not a rate: ${text}`);
  return rate;
}

/** The same value without trailing zeros behind the point. */
export function normalRate(rate: Rate): Rate {
  let { coefficient, scale } = rate;
  while (scale > 0 && coefficient % 10n === 0n) {
    coefficient /= 10n;
    scale -= 1;
  }
  return { coefficient, scale };
}

const BASIS = 10_000n;

/**
 * The rate moved by `bps` basis points (below 10,000): up for who buys bitcoin with dollars, down for who sells it. Exact:
 * the scale grows by four digits.
 */
export const withSpread = (rate: Rate, bps: number, way: 'up' | 'down'): Rate =>
  bps === 0
    ? rate
    : normalRate({
        coefficient: rate.coefficient * (BASIS + BigInt(way === 'up' ? bps : -bps)),
        scale: rate.scale + 4,
      });

const over = (rate: Rate): bigint => 10n ** BigInt(rate.scale) * MSATS_PER_BTC;

/** Cents for msats (not negative), rounded up. */
export const centsUp = (rate: Rate, msats: bigint): bigint => divideUp(msats * rate.coefficient, over(rate));

/** Cents for msats (not negative), rounded down. */
export const centsDown = (rate: Rate, msats: bigint): bigint => (msats * rate.coefficient) / over(rate);

/** Msats for cents (not negative), rounded up. */
export const msatsUp = (rate: Rate, cents: bigint): bigint => divideUp(cents * over(rate), rate.coefficient);
