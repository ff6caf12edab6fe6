import { createLane } from '../core/batch.ts';
import type { Database, Sql } from '../core/db.ts';
import { readEventsAt, type StoredEvent } from '../core/events.ts';
import type { DueDelivery } from './queue.ts';

// What goes out, to webhooks and streams, and what the API shows of a delivery. No body is stored with a delivery: an
// event keeps the payment's row as its transaction left it, so every attempt is made of the same bytes (decision 21).

/** Shows a payment as the API shows it, from the row that an event keeps: JSON text to JSON text. The slice of payments gives it. */
export type ShowPayment = (row: string) => string;

/** The event's name, and the bytes. */
export interface Message {
  event: string;
  body: string;
}

/** What is shown of a delivery whose event was removed; it is never sent. */
const GONE = '{"type":"test","detail":{"event":"created","data":"the event is not kept any more"}}';

export type Bodies = ReturnType<typeof createBodies>;
export function createBodies(show: ShowPayment) {
  // Text put together, not parsed again: amounts beyond 2^53 stay exact.
  const ofEvent = ({ type, event, payment }: StoredEvent): string =>
    `{"type":"${type}","detail":{"event":"${event}","data":${show(payment)}}}`;
  return {
    /** The webhook's body of an event. */
    ofEvent,
    /** What a delivery sends: its event, or the payload that the client gave. */
    of({ payload }: Pick<DueDelivery, 'payload'>, event: StoredEvent | null): Message {
      if (event) return { event: event.event, body: ofEvent(event) };
      const body = payload ?? GONE;
      const { detail } = JSON.parse(body) as { detail?: { event?: string } };
      return { event: detail?.event ?? '', body };
    },
  };
}

/** The events of deliveries by their number, which no two have in common; a payload of the client's has none. */
export async function eventsOf(
  sql: Sql,
  deliveries: readonly DueDelivery[],
): Promise<Map<bigint | null, StoredEvent>> {
  const places = deliveries.flatMap(({ organization_id, environment_id, horizon, seq }) =>
    horizon === null || seq === null ? [] : [{ organization_id, environment_id, horizon, seq }],
  );
  return new Map((await readEventsAt(sql, places)).map((event) => [event.seq, event]));
}

const createReads = (db: Database, bodies: Bodies) =>
  createLane<DueDelivery, Message | null>({
    max_batch: 100,
    // Bounded by the attempts under way, and by what each reads ahead.
    max_queue: Number.MAX_SAFE_INTEGER,
    concurrency: 2,
    run: async (deliveries) => {
      const found = await eventsOf(db, deliveries);
      return deliveries.map((delivery) => {
        const event = found.get(delivery.seq);
        try {
          return { ok: true, value: event ? bodies.of(delivery, event) : null };
        } catch (error) {
          // One that cannot be shown stops no other.
          return { ok: false, error };
        }
      });
    },
  });

/** Messages kept: an event goes to many registrations at about the same time. Some 3 kB each, and few of the largest. */
const MAX_KEPT = 4096;
const MAX_KEPT_LENGTH = 16_777_216;

/** A message that was read, or is; its length once that is known. */
interface Kept {
  read: Promise<Message | null>;
  length: number;
}

export type Messages = ReturnType<typeof createMessages>;
/** What deliveries send, read when it is needed: events many at once, and what was read last is kept. */
export function createMessages(db: Database, bodies: Bodies) {
  // In the order in which they were put in, so that the first is the one to go.
  const kept = new Map<string, Kept>();
  let length = 0;
  const reads = createReads(db, bodies);

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
        // Made room for meanwhile: whoever waits has it all the same.
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
    /** Null where the event was removed. `ahead` are those whose turn comes next: they are read along. */
    of(delivery: DueDelivery, ahead: () => readonly DueDelivery[]): Promise<Message | null> {
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
