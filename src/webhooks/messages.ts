import { createLane } from '../core/batch.ts';
import type { Database } from '../core/db.ts';
import { readEventsAt } from '../core/events.ts';
import type { Bodies, Message } from './body.ts';
import type { DueDelivery } from './queue.ts';

/** What deliveries send, read when it is needed. */
export interface Messages {
  /** Null where the event was removed. `ahead` are those whose turn comes next: they are read along. */
  of(delivery: DueDelivery, ahead: () => readonly DueDelivery[]): Promise<Message | null>;
}

const READS = { max_batch: 100, max_queue: Number.MAX_SAFE_INTEGER, concurrency: 2 };
/** Messages kept: an event goes to many registrations at about the same time. Some 3 kB each, and few of the largest. */
const MAX_KEPT = 4096;
const MAX_KEPT_LENGTH = 16_777_216;

/** A message that was read, or is; its length once that is known. */
interface Kept {
  read: Promise<Message | null>;
  length: number;
}

/** Reads events many at once, and keeps what was read last. */
export function createMessages(db: Database, bodies: Bodies): Messages {
  const kept = new Map<string, Kept>();
  let length = 0;
  // Bounded by the attempts under way, and by what each reads ahead.
  const reads = createLane<DueDelivery, Message | null>({
    ...READS,
    run: async (deliveries) => {
      const places = deliveries.flatMap(({ organization_id, environment_id, horizon, seq }) =>
        horizon === null || seq === null ? [] : [{ organization_id, environment_id, horizon, seq }],
      );
      const found = new Map((await readEventsAt(db, places)).map((event) => [event.seq, event]));
      return deliveries.map((delivery) => {
        const event = found.get(delivery.seq ?? -1n);
        try {
          return { ok: true, value: event ? bodies.of(delivery, event) : null };
        } catch (error) {
          // One that cannot be shown stops no other.
          return { ok: false, error };
        }
      });
    },
  });

  function forget(key: string, one: Kept): void {
    if (kept.get(key) !== one) return;
    kept.delete(key);
    length -= one.length;
  }

  function makeRoom(): void {
    for (const [key, oldest] of kept) {
      if (kept.size <= MAX_KEPT && length <= MAX_KEPT_LENGTH) return;
      forget(key, oldest);
    }
  }

  function want(key: string, delivery: DueDelivery): Promise<Message | null> {
    const one: Kept = { read: reads.submit(delivery), length: 0 };
    kept.set(key, one);
    one.read.then(
      (message) => {
        // What is not there now may be there later: after a restore, for one.
        if (!message) return forget(key, one);
        if (kept.get(key) !== one) return;
        one.length = message.body.length;
        length += one.length;
        makeRoom();
      },
      () => forget(key, one),
    );
    makeRoom();
    return one.read;
  }

  return {
    of(delivery, ahead) {
      if (delivery.payload !== null) return Promise.resolve(bodies.of(delivery, null));
      const key = keyOf(delivery);
      const known = kept.get(key);
      if (known) return known.read;
      const read = want(key, delivery);
      for (const next of ahead()) {
        const its_key = keyOf(next);
        if (next.payload === null && !kept.has(its_key)) void want(its_key, next);
      }
      return read;
    },
  };
}

// With its payment: after a restore, a place may be that of another event than before.
const keyOf = ({ horizon, seq, payment_id }: DueDelivery): string => `${horizon}/${seq}/${payment_id}`;
