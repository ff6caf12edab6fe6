// What may become of a delivery, and when it is tried again. Pure; the statements in deliveries.ts and retention.ts keep
// to this table.

/** A delivery's states and every move that exists. `retry` begins a delivery again, whatever became of it. */
export const MOVES = {
  attempting: ['succeeded', 'failed', 'abandoned'],
  succeeded: ['attempting'],
  failed: ['attempting', 'abandoned'],
  abandoned: ['attempting'],
} as const satisfies Record<string, readonly string[]>;

export type DeliveryStatus = keyof typeof MOVES;
export const DELIVERY_STATUSES = Object.keys(MOVES) as DeliveryStatus[];

/** The states from which a delivery may come into this one. */
export const statesBefore = (to: DeliveryStatus): DeliveryStatus[] =>
  DELIVERY_STATUSES.filter((from) => (MOVES[from] as readonly string[]).includes(to));

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
/** Pauses after the first, second, … attempt that failed; the last one again and again. */
const PAUSES_MS = [
  SECOND_MS,
  5 * SECOND_MS,
  30 * SECOND_MS,
  2 * MINUTE_MS,
  10 * MINUTE_MS,
  HOUR_MS,
  4 * HOUR_MS,
];
const GIVE_UP_MS = 24 * HOUR_MS;
/** Deliveries that failed together do not come back together. */
const JITTER = 0.2;
/** A receiver that asks for a pause gets it, up to this. */
const MAX_ASKED_MS = HOUR_MS;

export interface Failed {
  /** Attempts of this round, this one included. */
  attempts: number;
  round_started_ms: number;
  now_ms: number;
  /** From 0 to 1. */
  random: number;
  /** What the receiver asked for; 0 if nothing. */
  asked_ms: number;
}

/**
 * When a delivery is tried again, or null when it has failed for good: when its day is over and every pause was tried,
 * so that a day in which nothing could be sent is none of its day.
 */
export function nextAttempt({ attempts, round_started_ms, now_ms, random, asked_ms }: Failed): number | null {
  const pause = PAUSES_MS[Math.min(attempts, PAUSES_MS.length) - 1] ?? SECOND_MS;
  const spread = pause * (1 + JITTER * (2 * random - 1));
  const next_ms = now_ms + Math.max(spread, Math.min(asked_ms, MAX_ASKED_MS));
  return attempts >= PAUSES_MS.length && next_ms - round_started_ms > GIVE_UP_MS ? null : Math.round(next_ms);
}
