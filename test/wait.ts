/** Bound of a wait, not a claim about speed: what takes longer never comes. A slow machine has other work, too. */
export const GIVE_UP_MS = 60_000;

const FIRST_MS = 10;
const LONGEST_MS = 250;
const GROWTH = 1.25;

/** Pauses between looks at what is not there yet: most comes at once; what does not is looked at less and less. */
export function growingPause(): () => Promise<void> {
  let next_ms = FIRST_MS;
  return () => {
    const pause_ms = next_ms;
    next_ms = Math.min(LONGEST_MS, next_ms * GROWTH);
    return new Promise((done) => setTimeout(done, pause_ms));
  };
}

/** Asks again until `work` answers; throws its last error when the time is up. */
export async function eventually<T>(
  work: () => Promise<T>,
  timeout_ms = GIVE_UP_MS,
  pause_ms = 100,
): Promise<T> {
  const give_up_at = Date.now() + timeout_ms;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() > give_up_at) throw error;
      await new Promise((done) => setTimeout(done, pause_ms));
    }
  }
}
