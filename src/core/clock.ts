/** The source of time; passed as an argument so that tests can move it. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
}

/** The machine's clock. */
export const systemClock: Clock = { now: () => Date.now() };

/** RFC 3339, UTC, microseconds, `Z`, of milliseconds since the epoch. */
export const timeText = (now_ms: number, microseconds = 0): string =>
  `${new Date(now_ms).toISOString().slice(0, -1)}${String(microseconds).padStart(3, '0')}Z`;

/**
 * Timestamps that never repeat within a process while its clock moves forward: what happened
 * later sorts later even within one millisecond.
 */
export function createTimestamps(clock: Clock): () => string {
  let last_ms = 0;
  let microseconds = 0;
  return () => {
    const now_ms = clock.now();
    if (now_ms !== last_ms) {
      last_ms = now_ms;
      microseconds = 0;
    } else if (microseconds < 999) {
      microseconds += 1;
    }
    return timeText(now_ms, microseconds);
  };
}

const PATIENCE_MS = 2000;
const refuse = (): never => {
  throw new Error('no answer in time');
};

/** The work's result; when it takes longer, what `late` says: a rejection, unless told otherwise. The work goes on, and its end is nobody's. */
export async function within<T>(
  work: Promise<T>,
  timeout_ms = PATIENCE_MS,
  late: () => T = refuse,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((done) => {
    timer = setTimeout(done, timeout_ms);
  }).then(late);
  return Promise.race([work, over]).finally(() => clearTimeout(timer));
}
