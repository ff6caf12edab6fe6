import { rowsParameter, type Sql } from '../core/db.ts';
import type { Delivery } from './deliveries.ts';
import type { Webhook, WebhookRef } from './store.ts';

/** An active registration, with the kind of its environment. */
export type ActiveWebhook = Webhook & { environment_kind: 'staging' | 'production' };

const MAX_ACTIVE = 100_000;

/** Active registrations: all, or those named. */
export const readActive = (sql: Sql, refs: readonly WebhookRef[] | null): Promise<ActiveWebhook[]> =>
  sql.query<ActiveWebhook>(
    `SELECT w.*, e.kind AS environment_kind FROM ${
      refs
        ? `json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, id uuid)
           JOIN webhooks w ON w.organization_id = r.organization_id AND w.environment_id = r.environment_id AND w.id = r.id`
        : 'webhooks w'
    }
     JOIN environments e ON e.organization_id = w.organization_id AND e.id = w.environment_id
     WHERE w.status = 'active' LIMIT ${MAX_ACTIVE}`,
    refs ? [rowsParameter(refs)] : [],
    refs ? 'active webhooks named' : 'active webhooks',
  );

/** What sending needs of a delivery. */
export type DueDelivery = Pick<
  Delivery,
  | 'organization_id'
  | 'environment_id'
  | 'webhook_id'
  | 'id'
  | 'horizon'
  | 'seq'
  | 'payload'
  | 'payment_id'
  | 'shard'
  | 'run_at'
  | 'round_attempts'
  | 'round_started_at'
>;
export const DUE_COLUMNS = `d.organization_id, d.environment_id, d.webhook_id, d.id, d.horizon, d.seq,
  d.payload::text AS payload, d.payment_id, d.shard, d.run_at, d.round_attempts, d.round_started_at`;

export interface Due {
  deliveries: DueDelivery[];
  /** When the next one comes due, of each registration that has one. */
  next: (WebhookRef & { run_at: string })[];
}

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

/** What is due of these registrations, the first `limit` of each, in the order in which it goes out. */
export async function readDue(
  sql: Sql,
  wanted: readonly (WebhookRef & { limit: number })[],
  shards: readonly number[],
  at: string,
): Promise<Due> {
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
