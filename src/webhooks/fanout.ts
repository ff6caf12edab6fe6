import type { Database } from '../core/db.ts';
import {
  END_OF_HORIZON,
  EVENT_COLUMNS,
  eventOf,
  isAfter,
  ITS_PAYMENT,
  READABLE_BELOW,
  type EventRow,
} from '../core/events.ts';
import type { EventPlace, StoredEvent } from '../core/events.ts';
import { DELIVERY_COLUMNS, SHARD_OF, type Delivery } from './deliveries.ts';

/** Deliveries that were just made, with their event: what is read here need not be read again to be sent. */
export interface Fresh {
  delivery: Delivery;
  event: StoredEvent;
}

export interface FanOut {
  /** Whether any registration exists. */
  wanted: boolean;
  /** The place lies beyond all that can be read: the database was restored into another cluster. */
  beyond: boolean;
  /** The place before and after. */
  from: EventPlace;
  to: EventPlace;
  /** In the order of events. */
  fresh: Fresh[];
  /** The highest number among the events that were passed. */
  seen: bigint;
  /** More can be read at once. */
  more: boolean;
}

/** Events per transaction: enough to keep up, few enough that the first is not kept waiting. */
export const MOST_EVENTS = 500;

/** A time that is further ahead is a clock that was wrong: nobody waits for it. */
const AHEAD = "interval '1 minute'";

const NEXT = `
  WITH place AS MATERIALIZED (
    SELECT horizon, seq, at FROM event_places WHERE name = 'deliveries' FOR UPDATE SKIP LOCKED),
  now AS MATERIALIZED (
    SELECT ${READABLE_BELOW} AS bound, EXISTS (SELECT 1 FROM webhooks WHERE status <> 'deleted') AS wanted)
  SELECT n.bound, p.horizon AS place_horizon, p.seq AS place_seq, n.wanted,
    greatest(clock_timestamp(), CASE WHEN p.at < clock_timestamp() + ${AHEAD} THEN p.at ELSE clock_timestamp() END) AS due, found.* FROM place p CROSS JOIN now n
  LEFT JOIN LATERAL (
    SELECT ${EVENT_COLUMNS} FROM (
      SELECT * FROM events e WHERE n.wanted AND (e.horizon, e.seq) > (p.horizon, p.seq) AND e.horizon < n.bound
      ORDER BY e.horizon, e.seq LIMIT $1) e ${ITS_PAYMENT}) found ON true
  ORDER BY found.event_horizon, found.event_seq`;

const DELIVER = `
  INSERT INTO webhook_deliveries AS d (organization_id, environment_id, webhook_id, id, horizon, seq, payment_id, shard,
    url, status, run_at, round_started_at, created_at, updated_at)
  SELECT w.organization_id, w.environment_id, w.id, gen_random_uuid(), e.horizon, e.seq, e.payment_id,
    ${SHARD_OF('e.payment_id')}, w.url, 'attempting', $6, $5, $5, $5
  FROM events e
  JOIN webhooks w ON w.organization_id = e.organization_id AND w.environment_id = e.environment_id
    AND w.status <> 'deleted' AND w.since <= e.horizon AND e.type || '.' || e.event = ANY (w.events)
  WHERE (e.horizon, e.seq) > ($1, $2) AND (e.horizon, e.seq) <= ($3, $4)
  ORDER BY e.horizon, e.seq
  RETURNING ${DELIVERY_COLUMNS}`;

const MOVE = `UPDATE event_places SET horizon = $1, seq = $2, at = $3 WHERE name = 'deliveries' AND (horizon, seq) < ($1, $2)`;

/**
 * Makes the deliveries of the next events and moves the place on, in one transaction: whoever holds the place does it,
 * nobody waits for it (null). Matching is SQL's, on what is committed: a registration that another server has just made counts.
 */
export async function fanOut(db: Database, at: string, limit: number): Promise<FanOut | null> {
  return db.transaction(async (sql) => {
    const rows = await sql.query<
      EventRow & { bound: bigint; place_horizon: bigint; place_seq: bigint; wanted: boolean; due: string }
    >(NEXT, [limit], 'next events');
    const [first] = rows;
    if (!first) return null;
    const from: EventPlace = { horizon: first.place_horizon, seq: first.place_seq };
    // By the database's clock: servers whose clocks differ must not turn the order of a payment's deliveries round.
    const { wanted, due } = first;
    const events = rows.flatMap(eventOf);
    const last = events.at(-1);
    if (!last) {
      // Nothing, or nothing that anybody wants, below the bound.
      const end: EventPlace = { horizon: first.bound - 1n, seq: END_OF_HORIZON };
      const to = isAfter(end, from) ? end : from;
      if (to === end) await sql.query(MOVE, [to.horizon, to.seq, due], 'pass events');
      const beyond = from.horizon >= first.bound;
      return { wanted, beyond, from, to, fresh: [], seen: 0n, more: false };
    }
    const [made] = await Promise.all([
      sql.query<Delivery>(
        DELIVER,
        [first.place_horizon, first.place_seq, last.horizon, last.seq, at, due],
        'make deliveries',
      ),
      sql.query(MOVE, [last.horizon, last.seq, due], 'pass events'),
    ]);
    const known = new Map(events.map((event) => [event.seq, event]));
    const fresh = made.flatMap((delivery) => {
      const event = known.get(delivery.seq ?? 0n);
      return event ? [{ delivery, event }] : [];
    });
    let seen = 0n;
    for (const { seq } of events) if (seq > seen) seen = seq;
    const to: EventPlace = { horizon: last.horizon, seq: last.seq };
    return { wanted, beyond: false, from, to, fresh, seen, more: events.length === limit };
  });
}
