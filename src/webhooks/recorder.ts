import { setTimeout as sleep } from 'node:timers/promises';
import { createLane } from '../core/batch.ts';
import type { Database } from '../core/db.ts';
import { recordAttempts, type Attempted } from './deliveries.ts';

/** While much ends, the next are gathered for a moment: nobody waits for them. */
const BUSY = 4;
const GATHER_MS = 20;
/** After an attempt that the database did not record; twice as long each time, up to the most. */
const PAUSE_MS = 250;
const MAX_PAUSE_MS = 30_000;

/**
 * Records what attempts brought, and holds sending back while that is refused: what is sent and not recorded is due
 * again, so a database that cannot be written to would make every receiver hear the same thing over and over.
 */
export class Recorder {
  readonly #lane;
  #refusals = 0;
  #resume_at = 0;

  constructor(db: Database) {
    this.#lane = createLane<Attempted, void>({
      max_batch: 500,
      // Bounded by the lines: each holds so many attempts that are not recorded.
      max_queue: Number.MAX_SAFE_INTEGER,
      concurrency: 1,
      async run(attempts) {
        await recordAttempts(db, attempts);
        if (attempts.length >= BUSY) await sleep(GATHER_MS);
        return attempts.map(() => ({ ok: true, value: undefined }));
      },
    });
  }

  /** Resolves when it is stored; rejects when the database refused, and sending pauses. */
  async record(attempted: Attempted): Promise<void> {
    try {
      await this.#lane.submit(attempted);
      this.#refusals = 0;
    } catch (error) {
      // Of a batch that is refused, all hear it: it counts once.
      if (this.pause_ms === 0) {
        this.#resume_at = performance.now() + Math.min(PAUSE_MS * 2 ** this.#refusals, MAX_PAUSE_MS);
        this.#refusals += 1;
      }
      throw error;
    }
  }

  /** Milliseconds until something may be sent again; 0 now. */
  get pause_ms(): number {
    return Math.max(0, this.#resume_at - performance.now());
  }

  /** Whether the last record was refused: one attempt shows whether the next is stored. */
  get refused(): boolean {
    return this.#refusals > 0;
  }

  /** Resolves when everything is stored or refused. */
  idle(): Promise<void> {
    return this.#lane.idle();
  }
}
