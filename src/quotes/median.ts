import { normalRate, type Rate } from '../core/rate.ts';

// Which answers of the sources count (docs/decisions/0011): pure, and judged anew whenever somebody asks for a rate, so
// that a server which polls no more stops quoting by itself.

/** What a source said last. */
export interface Reading {
  source: string;
  rate: Rate;
  at_ms: number;
}

export interface MedianRules {
  now_ms: number;
  /** An older reading says nothing of now. */
  max_age_ms: number;
  /** A source that is further from the median is left out, in basis points. */
  max_deviation_bps: number;
  /** Readings that must remain. */
  quorum: number;
}

export interface MedianResult {
  /** Null below the quorum. */
  rate: Rate | null;
  /** When the oldest reading behind it was taken. */
  at_ms: number;
  left_out: string[];
}

/** Both as whole numbers of one scale. */
const onOneScale = (a: Rate, b: Rate): [bigint, bigint] => [
  a.coefficient * 10n ** BigInt(b.scale),
  b.coefficient * 10n ** BigInt(a.scale),
];

function compare(a: Rate, b: Rate): number {
  const [left, right] = onOneScale(a, b);
  return Number(left - right);
}

/** The exact mean of two rates. */
function mean(a: Rate, b: Rate): Rate {
  const [left, right] = onOneScale(a, b);
  return normalRate({ coefficient: (left + right) * 5n, scale: a.scale + b.scale + 1 });
}

function medianOf(rates: readonly Rate[]): Rate | null {
  const sorted = [...rates].sort(compare);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  return upper && lower ? mean(lower, upper) : null;
}

function isNear(rate: Rate, median: Rate, max_bps: number): boolean {
  const [value, center] = onOneScale(rate, median);
  const distance = value < center ? center - value : value - center;
  return distance * 10_000n <= center * BigInt(max_bps);
}

/** The median of the fresh readings without those that are far from it; no rate below the quorum. */
export function judgeReadings(readings: readonly Reading[], rules: MedianRules): MedianResult {
  // After a clock was set back a reading is of the future: no more to be trusted than an old one.
  const fresh = readings.filter(({ at_ms }) => Math.abs(rules.now_ms - at_ms) <= rules.max_age_ms);
  const first = medianOf(fresh.map(({ rate }) => rate));
  const near = first ? fresh.filter(({ rate }) => isNear(rate, first, rules.max_deviation_bps)) : [];
  const left_out = fresh.filter((reading) => !near.includes(reading)).map(({ source }) => source);
  const rate = near.length >= rules.quorum ? medianOf(near.map((reading) => reading.rate)) : null;
  return { rate, at_ms: Math.min(...near.map(({ at_ms }) => at_ms)), left_out };
}
