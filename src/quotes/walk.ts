import { createHash } from 'node:crypto';
import { normalRate, parseRate, type Rate } from '../core/rate.ts';

// The sandbox's price: a walk that looks like a market and is a pure function of seed and time, in whole numbers.

const STEP_MS = 10_000;
const MILLION = 1_000_000n;
/** How far each wave carries the price, in millionths, and how long it takes: minutes, an hour, a day. */
const WAVES = [
  { swing: 1500n, period: 30n },
  { swing: 6000n, period: 360n },
  { swing: 20_000n, period: 8640n },
] as const;

/** A fixed number from -swing to swing for each seed, wave and turn. */
function turn(seed: string, swing: bigint, at: bigint): bigint {
  const digest = createHash('sha256').update(`${seed}/${swing}/${at}`).digest();
  return (digest.readBigUInt64BE() % (2n * swing + 1n)) - swing;
}

/** The price around `center` at a time; it stands still for ten seconds and stays within 2.75 %. */
export function walkedRate(seed: string, center: Rate, now_ms: number): Rate {
  const step = BigInt(Math.floor(now_ms / STEP_MS));
  let millionths = 0n;
  for (const { swing, period } of WAVES) {
    const begun = step / period;
    const into = step % period;
    millionths +=
      (turn(seed, swing, begun) * (period - into) + turn(seed, swing, begun + 1n) * into) / period;
  }
  // Two digits more than the centre has: the rate stays short, and the smallest centre does not become 0.
  const centre = center.coefficient * 100n;
  return normalRate({ coefficient: (centre * (MILLION + millionths)) / MILLION, scale: center.scale + 2 });
}

// A walk adds three digits and a spread five: the sum stays within the 28 digits and the scale of a stored rate.
const MAX_COEFFICIENT = 10n ** 15n;
const MAX_SCALE = 12;

/** Reads a rate for the sandbox; null when it is none, or has more digits than a price needs. */
export function parseSandboxRate(text: string): Rate | null {
  const rate = parseRate(text);
  return rate && rate.coefficient < MAX_COEFFICIENT && rate.scale <= MAX_SCALE ? rate : null;
}
