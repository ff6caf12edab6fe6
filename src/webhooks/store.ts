import { rowsParameter, type Sql } from '../core/db.ts';
import { READABLE_BELOW } from '../core/events.ts';
import type { EnvironmentRef } from '../core/ids.ts';

// Registrations in the database. They are matched with events there and nowhere else, so one that another server has just
// made gets what is committed after it. A server keeps in memory only how they are reached, and reads that at each look.

/** Names one registration: ids are unique per environment. */
export interface WebhookRef extends EnvironmentRef {
  id: string;
}

/** One row of `webhooks`; the secrets sealed. */
export interface Webhook extends WebhookRef {
  url: string;
  name: string;
  events: string[];
  status: 'active' | 'stopped' | 'deleted';
  secret: string;
  previous_secret: string | null;
  previous_until: string | null;
  failing_since: string | null;
  failing_at: string | null;
  created_at: string;
  updated_at: string;
  stopped_at: string | null;
  deleted_at: string | null;
}

export const webhookKey = ({ organization_id, environment_id, id }: WebhookRef): string =>
  `${organization_id}/${environment_id}/${id}`;

/** The registration that such a key names. */
export function refOfKey(key: string): WebhookRef {
  const [organization_id = '', environment_id = '', id = ''] = key.split('/');
  return { organization_id, environment_id, id };
}

/** What a sealed secret belongs to. */
export const secretOwner = (ref: WebhookRef): string => `webhook/${webhookKey(ref)}`;

/** The parameters of `ITS`, here and where deliveries are named by their registration. */
export const refValues = (ref: WebhookRef): unknown[] => [ref.organization_id, ref.environment_id, ref.id];
const ITS = 'organization_id = $1 AND environment_id = $2 AND id = $3';

/**
 * Stores a registration; false when its id is taken. It gets all that is committed from now on, since none of that has a
 * horizon below the oldest transaction under way; of what was committed just before it may get some, too.
 */
export async function insertWebhook(
  sql: Sql,
  webhook: WebhookRef & Pick<Webhook, 'url' | 'name' | 'events' | 'secret'>,
  at: string,
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO webhooks (organization_id, environment_id, id, url, name, events, status, secret, since, created_at, updated_at)
     VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, ${READABLE_BELOW}, $8, $8) ON CONFLICT DO NOTHING RETURNING 1`,
    [...refValues(webhook), webhook.url, webhook.name, webhook.events, webhook.secret, at],
    'insert webhook',
  );
  return rows.length > 0;
}

/** How many an environment has that are not deleted; no other is made beside it until this transaction ends. */
export async function countWebhooks(
  sql: Sql,
  { organization_id, environment_id }: EnvironmentRef,
): Promise<number> {
  const its = [organization_id, environment_id];
  // Two that are made at once would both be the last that there is room for. A statement of its own: the count has to
  // see what was committed while this one waited.
  await sql.query(
    'SELECT 1 FROM environments WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE',
    its,
    'lock environment of webhooks',
  );
  const [row] = await sql.query<{ count: bigint }>(
    `SELECT count(*) AS count FROM webhooks WHERE organization_id = $1 AND environment_id = $2 AND status <> 'deleted'`,
    its,
    'count webhooks',
  );
  return Number(row?.count ?? 0n);
}

export async function readWebhook(sql: Sql, ref: WebhookRef): Promise<Webhook | null> {
  const [row] = await sql.query<Webhook>(
    `SELECT * FROM webhooks WHERE ${ITS}`,
    refValues(ref),
    'read webhook',
  );
  return row ?? null;
}

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

/** Written into SQL as they are: the schema of the query lets nothing else in (`SORT`). */
export interface Sort {
  sort_key?: 'created_at' | 'updated_at';
  sort_order?: 'ASC' | 'DESC';
}

/** Every registration of an environment, in the order asked for; those deleted only when their status is named. */
export const listWebhooks = (
  sql: Sql,
  scope: EnvironmentRef,
  statuses: readonly string[],
  { sort_key = 'created_at', sort_order = 'DESC' }: Sort,
): Promise<Webhook[]> =>
  sql.query<Webhook>(
    `SELECT * FROM webhooks WHERE organization_id = $1 AND environment_id = $2 AND status = ANY($3)
     ORDER BY ${sort_key} ${sort_order}, id ${sort_order}`,
    [scope.organization_id, scope.environment_id, statuses],
  );

/** What is undefined stays as it is. */
export type WebhookChange = {
  [Name in 'url' | 'name' | 'events' | 'status' | 'secret']?: Webhook[Name] | undefined;
};

/** How long a secret that was replaced still signs beside the new one: time to bring the new one to every receiver. */
const HANDOFF = "interval '24 hours'";

/**
 * Changes a registration that is not deleted; false when there is none. A new status keeps its times, a new secret
 * keeps the old one for the time of the handoff. A registration that is started again, or led elsewhere, has not failed
 * yet: else the first failure would stop it for what was before.
 */
export async function changeWebhook(
  sql: Sql,
  ref: WebhookRef,
  { url, name, events, status, secret }: WebhookChange,
  at: string,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE webhooks SET url = coalesce($4, url), name = coalesce($5, name), events = coalesce($6, events),
       status = coalesce($7, status),
       stopped_at = CASE $7 WHEN 'active' THEN NULL WHEN 'stopped' THEN coalesce(stopped_at, $9) ELSE stopped_at END,
       deleted_at = CASE $7 WHEN 'deleted' THEN $9::timestamptz END,
       failing_since = CASE WHEN $7 = 'active' AND status <> 'active' OR $4 <> url THEN NULL ELSE failing_since END,
       previous_secret = CASE WHEN $8::text IS NULL THEN previous_secret ELSE secret END,
       previous_until = CASE WHEN $8::text IS NULL THEN previous_until ELSE $9::timestamptz + ${HANDOFF} END,
       secret = coalesce($8, secret), updated_at = $9
     WHERE ${ITS} AND status <> 'deleted' RETURNING 1`,
    // The driver sends undefined as NULL.
    [...refValues(ref), url, name, events, status, secret, at],
    'change webhook',
  );
  return rows.length > 0;
}

/** Longer than the pauses between the attempts of a delivery: beyond, nothing was attempted. */
const GAP = "interval '6 hours'";

export type Failing = Pick<Webhook, 'failing_since' | 'failing_at'>;

/** Notes a failure; time in which nothing was attempted moves the beginning of the failures on. */
export async function noteFailure(sql: Sql, ref: WebhookRef, at: string): Promise<Failing | null> {
  const [row] = await sql.query<Failing>(
    `UPDATE webhooks SET failing_at = $4,
       failing_since = coalesce(failing_since + greatest(interval '0', $4 - failing_at - ${GAP}), $4)
     WHERE ${ITS} RETURNING failing_since, failing_at`,
    [...refValues(ref), at],
    'note failing webhook',
  );
  return row ?? null;
}

/** Notes that something arrived. */
export const noteArrival = (sql: Sql, ref: WebhookRef): Promise<unknown> =>
  sql.query(
    `UPDATE webhooks SET failing_since = NULL, failing_at = NULL WHERE ${ITS} AND failing_since IS NOT NULL`,
    refValues(ref),
    'note arrival at webhook',
  );

/**
 * Stops a registration of which only failures came since then; false when it was changed meanwhile. `failing_since` is
 * compared: something may have arrived through another server, or its owner may have started it again.
 */
export async function stopFailing(sql: Sql, ref: WebhookRef, since: string, at: string): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE webhooks SET status = 'stopped', stopped_at = $5, updated_at = $5
     WHERE ${ITS} AND status = 'active' AND failing_since = $4 RETURNING 1`,
    [...refValues(ref), since, at],
    'stop failing webhook',
  );
  return rows.length > 0;
}

/** Of these API keys, those that may read no more: revoked, expired or gone. */
export async function withdrawnKeys(sql: Sql, key_ids: readonly string[], at: string): Promise<Set<string>> {
  const rows = await sql.query<{ id: string }>(
    `SELECT k.id FROM unnest($1::uuid[]) AS k(id) WHERE NOT EXISTS (
       SELECT 1 FROM api_keys a WHERE a.id = k.id AND a.revoked_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > $2))`,
    [key_ids, at],
    'keys of streams',
  );
  return new Set(rows.map(({ id }) => id));
}
