import { rowsParameter, type Sql } from './db.ts';
import type { EnvironmentRef } from './ids.ts';

/** What a payment's step tells the outside; written by the transaction that makes the step. */
export interface NewEvent extends EnvironmentRef {
  payment_id: string;
  wallet_id: string;
  /** `send` or `receive`. */
  type: string;
  event: string;
  /** The payment's row as the transaction leaves it. */
  payment: object;
  at: string;
}

/** A place in the order of events. */
export interface EventPlace {
  horizon: bigint;
  seq: bigint;
}

/** An event as it is read. */
export interface StoredEvent extends EventPlace, Omit<NewEvent, 'payment'> {
  /** The payment's row as its transaction left it: JSON text, bigints as strings. */
  payment: string;
}

/** After every event of a horizon. */
export const END_OF_HORIZON = 2n ** 63n - 1n;
/** Before every event. */
export const FIRST_PLACE: EventPlace = { horizon: 0n, seq: 0n };

/** Whether `a` comes later in the order in which events are read. */
export const isAfter = (a: EventPlace, b: EventPlace): boolean =>
  a.horizon > b.horizon || (a.horizon === b.horizon && a.seq > b.seq);

/** The oldest transaction under way: every event below it is committed, and no other will come. */
export const READABLE_BELOW = 'pg_snapshot_xmin(pg_current_snapshot())::text::bigint';

/**
 * Writes events; call it when everything that they tell of is locked. The horizon is the higher of this transaction
 * and the last one that has ended: never below a transaction that may still add events, and of two steps of one
 * payment never lower in the later one, although its transaction may have begun first.
 * Answers the highest number that was given.
 */
export async function insertEvents(sql: Sql, events: readonly NewEvent[]): Promise<bigint> {
  if (events.length === 0) return 0n;
  const [row] = await sql.query<{ seq: bigint }>(
    `WITH written AS (
       INSERT INTO events (organization_id, environment_id, horizon, payment_id, wallet_id, type, event, payment, at)
       SELECT r.organization_id, r.environment_id, h.horizon, r.payment_id, r.wallet_id, r.type, r.event, r.payment, r.at
       FROM (SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1,
                             pg_current_xact_id()::text::bigint) AS horizon) h,
         json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, payment_id uuid, wallet_id uuid,
           type text, event text, payment json, at timestamptz)
       RETURNING seq)
     SELECT max(seq) AS seq FROM written`,
    [rowsParameter(events)],
    'insert events',
  );
  return row?.seq ?? 0n;
}

const EVENT_COLUMNS = `e.organization_id, e.environment_id, e.horizon, e.seq, e.payment_id, e.wallet_id, e.type, e.event,
  e.at, e.payment::text AS payment`;

/** Events in order, and where to go on. */
export interface EventPage {
  events: StoredEvent[];
  /** Where the next page begins: behind the last event, or behind all that can be read now. */
  next: EventPlace;
  has_more: boolean;
  /** Events behind the place were removed, in what this same read saw: the page does not go on where it ended. */
  removed: boolean;
  /** How often events were counted anew before: places of another epoch mean nothing in this one. */
  epoch: number;
}

/** The next events behind a place, in order, of one environment or of all; those not readable yet stay away. */
export async function readEvents(
  sql: Sql,
  after: EventPlace,
  scope: EnvironmentRef | null,
  limit: number,
): Promise<EventPage> {
  const own = scope ? 'e.organization_id = $4 AND e.environment_id = $5 AND' : '';
  const rows = await sql.query<
    (StoredEvent | { seq: null }) & { bound: bigint; removed: boolean; epoch: number }
  >(
    `WITH now AS MATERIALIZED (SELECT ${READABLE_BELOW} AS bound, (p.horizon, p.seq) > ($1, $2) AS removed, p.epoch
       FROM event_places p WHERE p.name = 'removed')
     SELECT n.bound, n.removed, n.epoch, found.* FROM now n LEFT JOIN LATERAL (
       SELECT ${EVENT_COLUMNS} FROM events e WHERE ${own} (e.horizon, e.seq) > ($1, $2) AND e.horizon < n.bound
       ORDER BY e.horizon, e.seq LIMIT $3) found ON true
     ORDER BY found.horizon, found.seq`,
    [after.horizon, after.seq, limit, ...(scope ? [scope.organization_id, scope.environment_id] : [])],
    scope ? 'read events of one' : 'read events',
  );
  const { bound, removed, epoch } = rows[0] ?? { bound: 0n, removed: false, epoch: 0 };
  const events = rows.filter((row) => row.seq !== null);
  const last = events.at(-1);
  const has_more = events.length === limit;
  const end: EventPlace = { horizon: bound - 1n, seq: END_OF_HORIZON };
  const next = has_more && last ? last : isAfter(end, after) ? end : after;
  return { events, next: { horizon: next.horizon, seq: next.seq }, has_more, removed, epoch };
}

/** Events at these places, in any order. */
export async function readEventsAt(
  sql: Sql,
  places: readonly (EventPlace & EnvironmentRef)[],
): Promise<StoredEvent[]> {
  if (places.length === 0) return [];
  return sql.query<StoredEvent>(
    `SELECT ${EVENT_COLUMNS}
     FROM json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, horizon bigint, seq bigint)
     JOIN events e ON e.organization_id = r.organization_id AND e.environment_id = r.environment_id
       AND e.horizon = r.horizon AND e.seq = r.seq`,
    [rowsParameter(places)],
    'read events at',
  );
}
