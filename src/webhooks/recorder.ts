import { createLane } from '../core/batch.ts';
import type { Database } from '../core/db.ts';
import { recordAttempts, type Attempted } from './deliveries.ts';

// Bounded by the lines: each holds so many attempts that are not recorded.
const RECORDS = { max_batch: 500, max_queue: Number.MAX_SAFE_INTEGER, concurrency: 1 };
/** While much ends, the next are gathered for a moment: nobody waits for them. */
const BUSY = 4;
const GATHER_MS = 20;
/** After an attempt that the database did not record; twice as long each time, up to the most. */
const PAUSE_MS = 250;
const MAX_PAUSE_MS = 30_000;

/** Records what attempts brought, and holds sending back while that is refused: it would only be repeated. */
export interface Recorder {
  /** Resolves when it is stored; rejects when the database refused, and sending pauses. */
  record(attempted: Attempted): Promise<void>;
  /** Milliseconds until something may be sent again; 0 now. */
  pause_ms(): number;
  /** Whether the last record was refused: one attempt shows whether the next is stored. */
  refused(): boolean;
  /** Resolves when everything is stored or refused. */
  idle(): Promise<void>;
}

export function createRecorder(db: Database): Recorder {
  let refused = 0;
  let resume_at = 0;
  const pause_ms = (): number => Math.max(0, resume_at - performance.now());
  const records = createLane<Attempted, void>({
    ...RECORDS,
    run: async (attempts) => {
      await recordAttempts(db, attempts);
      if (attempts.length >= BUSY) await new Promise((done) => setTimeout(done, GATHER_MS));
      return attempts.map(() => ({ ok: true as const, value: undefined }));
    },
  });
  return {
    async record(attempted) {
      try {
        await records.submit(attempted);
        refused = 0;
      } catch (error) {
        if (pause_ms() === 0) {
          resume_at = performance.now() + Math.min(PAUSE_MS * 2 ** refused, MAX_PAUSE_MS);
          refused += 1;
        }
        throw error;
      }
    },
    pause_ms,
    refused: () => refused > 0,
    idle: () => records.idle(),
  };
}
