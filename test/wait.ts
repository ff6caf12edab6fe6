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
