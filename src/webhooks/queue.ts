import { rowsParameter, type Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import type { WebhookRef } from './store.ts';

// What is to be sent, as the database has it. Nothing is claimed: a delivery stays `attempting` with its time until what
// it brought is recorded, so one that was under way in a process that died is simply due (threat 14).

/** What sending needs of a delivery. */
export interface DueDelivery extends EnvironmentRef {
  webhook_id: string;
  id: string;
  horizon: bigint | null;
  seq: bigint | null;
  /** JSON text of a payload that the client gave; then there is no event. */
  payload: string | null;
  payment_id: string | null;
  shard: number;
  run_at: string;
  round_attempts: number;
  round_started_at: string;
}
export const DUE_COLUMNS = `d.organization_id, d.environment_id, d.webhook_id, d.id, d.horizon, d.seq,
  d.payload::text AS payload, d.payment_id, d.shard, d.run_at, d.round_attempts, d.round_started_at`;

const REFS =
  'json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, id uuid, "limit" integer)';
const OPEN = `d.organization_id = r.organization_id AND d.environment_id = r.environment_id AND d.webhook_id = r.id
  AND d.status = 'attempting'`;

/** A time that is further ahead is a clock that was wrong: nobody waits for it. */
export const AHEAD = "interval '1 minute'";

// First attempts have their time from the database, the others from a server: what is due by either clock is due. So is
// what was made last, where the database runs on another clock now: its payment's next would be sent before it.
const now = (parameter: string): string => `greatest(${parameter}::timestamptz, statement_timestamp(),
  (SELECT p.at FROM event_places p WHERE p.name = 'deliveries' AND p.at < statement_timestamp() + ${AHEAD}))`;

/**
 * What is due of these registrations, the first `limit` of each, in the order in which it goes out; and when the next one
 * comes due, of each registration that has one, whoever sends it.
 */
export async function readDue(
  sql: Sql,
  wanted: readonly (WebhookRef & { limit: number })[],
  shards: readonly number[],
  at: string,
): Promise<{ deliveries: DueDelivery[]; next: (WebhookRef & { run_at: string })[] }> {
  if (wanted.length === 0 || shards.length === 0) return { deliveries: [], next: [] };
  const parameter = rowsParameter(wanted);
  const deliveries = await sql.query<DueDelivery>(
    `SELECT ${DUE_COLUMNS} FROM ${REFS} CROSS JOIN LATERAL (
       SELECT * FROM webhook_deliveries d WHERE ${OPEN} AND d.run_at <= ${now('$3')} AND d.shard = ANY($2)
       ORDER BY d.run_at, d.horizon, d.seq LIMIT r."limit") d`,
    [parameter, shards, at],
    'due deliveries',
  );
  const next = await sql.query<WebhookRef & { run_at: string }>(
    `SELECT r.organization_id, r.environment_id, r.id, d.run_at FROM ${REFS} CROSS JOIN LATERAL (
       SELECT d.run_at FROM webhook_deliveries d WHERE ${OPEN} AND d.run_at > ${now('$2')}
       ORDER BY d.run_at LIMIT 1) d`,
    [parameter, at],
    'next due deliveries',
  );
  return { deliveries, next };
}
