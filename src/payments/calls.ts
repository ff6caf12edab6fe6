/**
 * When a call to pay could still reach its node. A call that was never answered may be on its way; until its
 * deadline has passed, "not found" and "failed" are no last words, and it is not repeated. Measured by a clock
 * that nobody sets; a process that did not make the call counts from when it first sees it. Keys name one call.
 */
export interface Calls {
  /** A call is being made. */
  made(key: string): void;
  /** It was answered, or never left. */
  answered(key: string): void;
  /** True when this call cannot arrive any more. */
  over(key: string, window_ms: number): boolean;
  forget(key: string): void;
}

// Payments that another process ended leave an entry behind; forgetting one only means waiting once more.
const MAX_ENTRIES = 100_000;

export function createCalls(now_ms: () => number = () => performance.now()): Calls {
  const since = new Map<string, number>();
  return {
    made(key) {
      if (since.size >= MAX_ENTRIES) since.clear();
      since.set(key, now_ms());
    },
    answered: (key) => void since.set(key, -Infinity),
    over(key, window_ms) {
      if (!since.has(key)) this.made(key);
      return now_ms() - (since.get(key) ?? 0) >= window_ms;
    },
    forget: (key) => void since.delete(key),
  };
}
