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
/** Messages kept: an event goes to many registrations at about the same time. Some 3 kB each. */
const MAX_KEPT = 4096;

/** Reads events many at once, and keeps what was read last. */
export function createMessages(db: Database, bodies: Bodies): Messages {
  const kept = new Map<string, Promise<Message | null>>();
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

  function want(key: string, delivery: DueDelivery): Promise<Message | null> {
    const read = reads.submit(delivery);
    kept.set(key, read);
    const forget = () => kept.delete(key);
    // What is not there now may be there later: after a restore, for one.
    read.then((message) => message ?? forget(), forget);
    for (const oldest of kept.keys()) {
      if (kept.size <= MAX_KEPT) break;
      kept.delete(oldest);
    }
    return read;
  }

  return {
    of(delivery, ahead) {
      if (delivery.payload !== null) return Promise.resolve(bodies.of(delivery, null));
      const key = keyOf(delivery);
      const known = kept.get(key);
      if (known) return known;
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
