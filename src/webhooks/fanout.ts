import type { Database } from '../core/db.ts';
import { END_OF_HORIZON, isAfter, READABLE_BELOW, type EventPlace } from '../core/events.ts';
import { SHARD_OF } from './deliveries.ts';
import { AHEAD, DUE_COLUMNS, type DueDelivery } from './queue.ts';

export interface FanOut {
  /** Whether any registration exists. */
  wanted: boolean;
  /** The place lies beyond all that can be read: the database was restored into another cluster. */
  beyond: boolean;
  /** The place before and after. */
  from: EventPlace;
  to: EventPlace;
  /** The deliveries that were made, in the order of events. */
  fresh: DueDelivery[];
  /** The highest number among the events that were passed. */
  seen: bigint;
  /** More can be read at once. */
  more: boolean;
}

/** Events per statement: enough to keep up, few enough that the first is not kept waiting. */
export const MOST_EVENTS = 500;

// One statement, so that one snapshot says which events and registrations there are and how far the place moves.
// Due by the database's clock, never before what was made before: servers whose clocks differ must not turn the order of a
// payment's deliveries round. Without events the place moves behind all that can be read.
const FAN_OUT = `
  WITH place AS MATERIALIZED (
    SELECT horizon, seq,
      greatest(clock_timestamp(), CASE WHEN at < clock_timestamp() + ${AHEAD} THEN at END) AS due
    FROM event_places WHERE name = 'deliveries' FOR UPDATE SKIP LOCKED),
  now AS MATERIALIZED (
    SELECT ${READABLE_BELOW} AS bound, EXISTS (SELECT 1 FROM webhooks WHERE status <> 'deleted') AS wanted),
  next AS MATERIALIZED (
    SELECT e.* FROM place p CROSS JOIN now n CROSS JOIN LATERAL (
      SELECT e.organization_id, e.environment_id, e.horizon, e.seq, e.payment_id, e.type || '.' || e.event AS name
      FROM events e WHERE n.wanted AND (e.horizon, e.seq) > (p.horizon, p.seq) AND e.horizon < n.bound
      ORDER BY e.horizon, e.seq LIMIT $1) e),
  reached AS MATERIALIZED (
    SELECT coalesce(l.horizon, n.bound - 1) AS horizon, coalesce(l.seq, ${END_OF_HORIZON}) AS seq,
      (SELECT count(*) FROM next) AS events, coalesce((SELECT max(seq) FROM next), 0) AS seen
    FROM now n LEFT JOIN (SELECT horizon, seq FROM next ORDER BY horizon DESC, seq DESC LIMIT 1) l ON true),
  moved AS (
    UPDATE event_places m SET horizon = r.horizon, seq = r.seq, at = p.due FROM place p CROSS JOIN reached r
    WHERE m.name = 'deliveries' AND (m.horizon, m.seq) < (r.horizon, r.seq)),
  made AS (
    INSERT INTO webhook_deliveries AS d (organization_id, environment_id, webhook_id, id, horizon, seq, payment_id, shard,
      url, status, run_at, round_started_at, created_at, updated_at)
    SELECT w.organization_id, w.environment_id, w.id, gen_random_uuid(), e.horizon, e.seq, e.payment_id,
      ${SHARD_OF('e.payment_id')}, w.url, 'attempting', p.due, $2, $2, $2
    FROM next e CROSS JOIN place p
    JOIN webhooks w ON w.organization_id = e.organization_id AND w.environment_id = e.environment_id
      AND w.status <> 'deleted' AND w.since <= e.horizon AND e.name = ANY (w.events)
    ORDER BY e.horizon, e.seq
    RETURNING ${DUE_COLUMNS})
  SELECT p.horizon AS from_horizon, p.seq AS from_seq, n.bound, n.wanted, r.horizon AS to_horizon, r.seq AS to_seq, r.events,
    r.seen, d.*
  FROM place p CROSS JOIN now n CROSS JOIN reached r LEFT JOIN made d ON true
  ORDER BY d.horizon, d.seq`;

interface FanOutRow {
  from_horizon: bigint;
  from_seq: bigint;
  bound: bigint;
  wanted: boolean;
  to_horizon: bigint;
  to_seq: bigint;
  events: bigint;
  seen: bigint;
}

/**
 * Makes the deliveries of the next events and moves the place on, in one transaction: whoever holds the place does it,
 * nobody waits for it (null). Matching is SQL's, on what is committed: a registration that another server has just made counts.
 */
export async function fanOut(db: Database, at: string, limit: number): Promise<FanOut | null> {
  const rows = await db.query<FanOutRow & (DueDelivery | { id: null })>(
    FAN_OUT,
    [limit, at],
    'make deliveries',
  );
  const [first] = rows;
  if (!first) return null;
  const from: EventPlace = { horizon: first.from_horizon, seq: first.from_seq };
  const reached: EventPlace = { horizon: first.to_horizon, seq: first.to_seq };
  return {
    wanted: first.wanted,
    beyond: first.events === 0n && from.horizon >= first.bound,
    from,
    to: isAfter(reached, from) ? reached : from,
    fresh: rows.filter((row) => row.id !== null),
    seen: first.seen,
    more: first.events === BigInt(limit),
  };
}
