import { bindingOf, readCursor, writeCursor } from '../core/cursor.ts';
import { rowsParameter, type Sql } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { stringifyJson } from '../core/json.ts';
import type { ErrorInfo } from './attempt.ts';
import { DUE_COLUMNS, type DueDelivery } from './queue.ts';
import { statesBefore, type DeliveryStatus } from './states.ts';
import { refValues, type Sort, type WebhookRef } from './store.ts';

// Deliveries as rows: what the API begins, ends and lists, and what attempts bring. An attempt and a client may change one
// delivery at the same time: each statement says for which states, or for which attempt, it is meant.

/** One row of `webhook_deliveries`. */
export interface Delivery extends DueDelivery {
  url: string;
  status: DeliveryStatus;
  attempt_count: bigint;
  error_info: ErrorInfo | null;
  status_code: number | null;
  created_at: string;
  updated_at: string;
}

/** Deliveries are spread over this many shards by their payment; a power of two. */
export const SHARDS = 16;
/** The shard of `payment_id`, in SQL. */
export const SHARD_OF = (column: string): string => `(hashtext(${column}::text) & ${SHARDS - 1})::smallint`;

const DELIVERY_COLUMNS = `${DUE_COLUMNS}, d.url, d.status, d.attempt_count, d.error_info, d.status_code, d.created_at,
  d.updated_at`;

const ITS = 'd.organization_id = $1 AND d.environment_id = $2 AND d.webhook_id = $3';

export async function readDelivery(sql: Sql, webhook: WebhookRef, id: string): Promise<Delivery | null> {
  const [row] = await sql.query<Delivery>(
    `SELECT ${DELIVERY_COLUMNS} FROM webhook_deliveries d WHERE ${ITS} AND d.id = $4`,
    [...refValues(webhook), id],
    'read delivery',
  );
  return row ?? null;
}

/** Stores a delivery of a payload that the client gave; false when its id is taken. */
export async function insertTest(
  sql: Sql,
  webhook: WebhookRef & { url: string },
  test: { id: string; payload: unknown },
  at: string,
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO webhook_deliveries (organization_id, environment_id, webhook_id, id, payload, shard, url, status,
       run_at, round_started_at, created_at, updated_at)
     VALUES ($1, $2, $3, $4, $5, ${SHARD_OF('$4::uuid')}, $6, 'attempting', $7, $7, $7, $7) ON CONFLICT DO NOTHING RETURNING 1`,
    [...refValues(webhook), test.id, stringifyJson(test.payload), webhook.url, at],
    'insert test delivery',
  );
  return rows.length > 0;
}

/** Begins deliveries again now: one by its id, or those in these states made since then. Answers how many. */
export async function beginAgain(
  sql: Sql,
  webhook: WebhookRef,
  which: { id: string } | { since: string; statuses: readonly string[]; limit: number },
  at: string,
): Promise<number> {
  const one = 'id' in which;
  const rows = await sql.query(
    `UPDATE webhook_deliveries d SET status = 'attempting', run_at = $4, round_attempts = 0, round_started_at = $4,
       updated_at = $4
     WHERE ${ITS} AND d.id ${
       one
         ? '= $5'
         : `IN (SELECT d.id FROM webhook_deliveries d
       WHERE ${ITS} AND d.created_at >= $5 AND d.status = ANY($6) ORDER BY d.created_at, d.id LIMIT $7 FOR UPDATE)`
     }
     RETURNING 1`,
    [...refValues(webhook), at, ...(one ? [which.id] : [which.since, which.statuses, which.limit])],
    one ? 'begin delivery again' : 'begin deliveries again',
  );
  return rows.length;
}

const STEP = 5000;

/**
 * What a stopped registration attempted before begins its schedule anew, and is due: the time in which it was stopped
 * does not count. In steps, each by itself: nothing is sent before it is started.
 */
export async function beginRounds(sql: Sql, webhook: WebhookRef, at: string): Promise<void> {
  for (;;) {
    const rows = await sql.query(
      `UPDATE webhook_deliveries d SET run_at = least(d.run_at, $4), round_attempts = 0, round_started_at = $4
       WHERE ${ITS} AND d.status = 'attempting' AND d.id IN (
         SELECT d.id FROM webhooks w JOIN webhook_deliveries d ON d.organization_id = w.organization_id
           AND d.environment_id = w.environment_id AND d.webhook_id = w.id
         WHERE ${ITS} AND w.status = 'stopped' AND d.status = 'attempting' AND d.round_attempts > 0 LIMIT ${STEP})
       RETURNING 1`,
      [...refValues(webhook), at],
      'begin rounds of stopped webhook',
    );
    if (rows.length < STEP) return;
  }
}

/** Gives a delivery up; false when it is in no state from which that is possible. */
export async function abandon(sql: Sql, webhook: WebhookRef, id: string, at: string): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE webhook_deliveries d SET status = 'abandoned', updated_at = $5
     WHERE ${ITS} AND d.id = $4 AND d.status = ANY($6) RETURNING 1`,
    [...refValues(webhook), id, at, statesBefore('abandoned')],
    'abandon delivery',
  );
  return rows.length > 0;
}

/** What DELETE gives up at once; more, and attempts that are just being recorded, are given up by the sweep. */
const ABANDON_LIMIT = 5000;

/** Gives up what is open of a registration that is deleted in this transaction. */
export const abandonOpen = (sql: Sql, webhook: WebhookRef, at: string): Promise<unknown> =>
  sql.query(
    `UPDATE webhook_deliveries d SET status = 'abandoned', updated_at = $4
     WHERE ${ITS} AND d.status = 'attempting' AND d.id IN (
       SELECT d.id FROM webhook_deliveries d WHERE ${ITS} AND d.status = 'attempting' LIMIT ${ABANDON_LIMIT}
       FOR UPDATE SKIP LOCKED)`,
    [...refValues(webhook), at],
    'abandon deliveries of a webhook',
  );

/** What one attempt brought. */
export interface Attempted
  extends
    Pick<DueDelivery, 'organization_id' | 'environment_id' | 'webhook_id' | 'id' | 'run_at'>,
    Pick<Delivery, 'status' | 'url' | 'error_info' | 'status_code' | 'updated_at'> {
  /** When this attempt was due: another server's attempt, or a new round, has given it another time. */
  run_before: string;
}

const OWN = "d.status = 'attempting' AND d.run_at = r.run_before";

/** Records attempts. One that was abandoned, begun again or ended meanwhile counts its attempt and keeps its state. */
export async function recordAttempts(sql: Sql, attempts: readonly Attempted[]): Promise<void> {
  await sql.query(
    `UPDATE webhook_deliveries d SET attempt_count = d.attempt_count + 1,
       round_attempts = d.round_attempts + (${OWN})::integer,
       round_started_at = CASE WHEN ${OWN} AND d.round_attempts = 0 THEN r.updated_at ELSE d.round_started_at END,
       status = CASE WHEN ${OWN} THEN r.status ELSE d.status END,
       run_at = CASE WHEN ${OWN} THEN r.run_at ELSE d.run_at END,
       error_info = r.error_info, status_code = r.status_code, url = r.url, updated_at = r.updated_at
     FROM json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, webhook_id uuid, id uuid,
       run_before timestamptz, status text, run_at timestamptz, url text, error_info jsonb, status_code integer,
       updated_at timestamptz)
     WHERE d.organization_id = r.organization_id AND d.environment_id = r.environment_id
       AND d.webhook_id = r.webhook_id AND d.id = r.id`,
    [rowsParameter(attempts)],
    'record attempts',
  );
}

const EVENT_GONE: ErrorInfo = {
  type: 'delivery_failed',
  code: 'unexpected_error',
  detail: 'its event is not kept any more',
};

/** Ends a delivery of an event that is not there, unless it is of another one by now. */
export const endWithoutEvent = (sql: Sql, delivery: DueDelivery, at: string): Promise<unknown> =>
  sql.query(
    `UPDATE webhook_deliveries d SET status = 'failed', error_info = $5, updated_at = $6
     WHERE ${ITS} AND d.id = $4 AND d.status = 'attempting' AND d.payload IS NULL AND NOT EXISTS (
       SELECT 1 FROM events e WHERE e.organization_id = d.organization_id AND e.environment_id = d.environment_id
         AND e.horizon = d.horizon AND e.seq = d.seq)`,
    [...refValues({ ...delivery, id: delivery.webhook_id }), delivery.id, EVENT_GONE, at],
    'end delivery without event',
  );

export interface DeliveryQuery extends Sort {
  statuses?: string[];
  cursor?: string;
  pagination?: string;
  limit?: number;
  offset?: number;
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;

/** The condition of a status filter; spelled out where a partial index answers it. */
function statusTerm(statuses: readonly string[] | undefined, parameter: string): string {
  if (!statuses) return `${parameter}::text[] IS NULL`;
  const among = (set: string[]) => statuses.every((status) => set.includes(status));
  const own = `d.status = ANY(${parameter})`;
  if (among(['attempting'])) return `d.status = 'attempting' AND ${own}`;
  return among(['failed', 'abandoned']) ? `d.status IN ('failed', 'abandoned') AND ${own}` : own;
}

/** One page of a registration's deliveries, in either pagination. */
export async function listDeliveries(sql: Sql, secret: Buffer, webhook: WebhookRef, query: DeliveryQuery) {
  const limit = Math.min(query.limit ?? DEFAULT_LIMIT, MAX_LIMIT);
  const { sort_key: key = 'created_at', sort_order: order = 'DESC' } = query;
  const by_cursor = query.cursor !== undefined || query.pagination === 'cursor';
  const statuses = query.statuses ? [...query.statuses].sort() : null;
  const bound_to = bindingOf([...refValues(webhook), key, order, statuses]);
  const values = [...refValues(webhook), statuses];
  let where = `${ITS} AND ${statusTerm(query.statuses, '$4')}`;
  if (query.cursor !== undefined) {
    const position = placeOf(secret, bound_to, query.cursor);
    where += ` AND (d.${key}, d.id) ${order === 'ASC' ? '>' : '<'} ($5::timestamptz, $6::uuid)`;
    values.push(position.value, position.id);
  }
  const offset = by_cursor ? 0 : (query.offset ?? 0);
  const rows =
    limit === 0
      ? []
      : await sql.query<Delivery>(
          `SELECT ${DELIVERY_COLUMNS} FROM webhook_deliveries d WHERE ${where}
           ORDER BY d.${key} ${order}, d.id ${order} LIMIT ${limit + 1} OFFSET ${offset}`,
          values,
        );
  const page = { deliveries: rows.slice(0, limit), offset, limit, has_more: rows.length > limit };
  // Without a cursor the condition is that of the filter alone.
  if (!by_cursor) return { ...page, total: await countOf(sql, where, values) };
  const last = page.has_more ? page.deliveries.at(-1) : undefined;
  const next_cursor = last ? writeCursor(secret, bound_to, { value: last[key], id: last.id }) : null;
  return { ...page, next_cursor };
}

async function countOf(sql: Sql, where: string, values: unknown[]): Promise<bigint> {
  const [row] = await sql.query<{ total: bigint }>(
    `SELECT count(*) AS total FROM webhook_deliveries d WHERE ${where}`,
    values,
  );
  return row?.total ?? 0n;
}

/** The contract has no `invalid_cursor` here. */
function placeOf(secret: Buffer, bound_to: string, cursor: string): { value: string; id: string } {
  try {
    return readCursor(secret, bound_to, cursor);
  } catch (error) {
    throw error instanceof ApiError ? new ApiError('invalid_parameter', `cursor: ${error.message}`) : error;
  }
}

const EXACT_UP_TO = 100_000;

/** How many deliveries there are: counted, or the planner's estimate where that is above 100,000. */
export async function countDeliveries(
  sql: Sql,
  webhook: WebhookRef,
  statuses: string[] | undefined,
): Promise<{ count: bigint; exact: boolean }> {
  const where = `${ITS} AND ${statusTerm(statuses, '$4')}`;
  const values = [...refValues(webhook), statuses ?? null];
  const [plan] = await sql.query<{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] }>(
    `EXPLAIN (FORMAT json) SELECT 1 FROM webhook_deliveries d WHERE ${where}`,
    values,
  );
  const estimate = plan?.['QUERY PLAN'][0].Plan['Plan Rows'] ?? 0;
  if (estimate > EXACT_UP_TO) return { count: BigInt(Math.round(estimate)), exact: false };
  return { count: await countOf(sql, where, values), exact: true };
}
