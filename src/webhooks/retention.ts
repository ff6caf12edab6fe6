import type { Sql } from '../core/db.ts';

// What is older than it is kept, removed in the background. In small steps, each a statement of its own: none holds many
// rows for long beside the payments, and what is left when the process ends is found by the next sweep.

const STEP = 5000;
const MAX_STEPS = 20;
/** Events outlive the deliveries that show them. */
const EVENTS_LONGER_DAYS = 1;

/** Runs a step until it does less than a full one, or enough is done for now. */
async function inSteps(step: () => Promise<number>): Promise<void> {
  for (let count = 0; count < MAX_STEPS; count += 1) {
    if ((await step()) < STEP) return;
  }
}

/** Deliveries of one registration that were given up. */
export interface GivenUp {
  organization_id: string;
  environment_id: string;
  webhook_id: string;
  count: bigint;
}

/**
 * Gives up what is open of registrations `w` of this kind. The state is asked for twice: what an attempt brought that was
 * recorded between the look and the lock of its row stays.
 */
async function giveUp(sql: Sql, kind: string, values: unknown[], name: string): Promise<GivenUp[]> {
  const given_up: GivenUp[] = [];
  await inSteps(async () => {
    const rows = await sql.query<GivenUp>(
      `WITH gone AS (
         UPDATE webhook_deliveries d SET status = 'abandoned', updated_at = $1 FROM (
           SELECT d.organization_id, d.environment_id, d.webhook_id, d.id FROM webhooks w
           JOIN webhook_deliveries d ON d.organization_id = w.organization_id AND d.environment_id = w.environment_id
             AND d.webhook_id = w.id AND d.status = 'attempting'
           WHERE ${kind}
           LIMIT ${STEP}) old
         WHERE d.organization_id = old.organization_id AND d.environment_id = old.environment_id
           AND d.webhook_id = old.webhook_id AND d.id = old.id AND d.status = 'attempting'
         RETURNING d.organization_id, d.environment_id, d.webhook_id)
       SELECT organization_id, environment_id, webhook_id, count(*) AS count FROM gone GROUP BY 1, 2, 3`,
      values,
      name,
    );
    given_up.push(...rows);
    return rows.reduce((sum, { count }) => sum + Number(count), 0);
  });
  return given_up;
}

/** What is still open of a registration that was deleted will not be sent, whenever that was. */
const abandonDeleted = (sql: Sql, at: string): Promise<GivenUp[]> =>
  giveUp(sql, "w.status = 'deleted'", [at], 'abandon deliveries of deleted webhooks');

/**
 * Gives up what a registration that has been stopped for as long as events are kept did not get in that time: what
 * waits keeps its event and all that came after it, everybody's.
 */
const abandonStopped = (sql: Sql, before: string, at: string): Promise<GivenUp[]> =>
  giveUp(
    sql,
    "w.status = 'stopped' AND w.stopped_at < $2 AND d.round_started_at < $2",
    [at, before],
    'abandon deliveries of stopped webhooks',
  );

/** Of each registration the oldest first: the index of its list gives them in that order. */
const removeDeliveries = (sql: Sql, before: string): Promise<void> =>
  inSteps(async () => {
    const rows = await sql.query(
      `DELETE FROM webhook_deliveries d USING (
         SELECT old.* FROM webhooks w CROSS JOIN LATERAL (
           SELECT d.organization_id, d.environment_id, d.webhook_id, d.id FROM webhook_deliveries d
           WHERE d.organization_id = w.organization_id AND d.environment_id = w.environment_id AND d.webhook_id = w.id
             AND d.created_at < $1 AND d.status <> 'attempting'
           ORDER BY d.created_at, d.id LIMIT ${STEP}) old
         LIMIT ${STEP}) gone
       WHERE d.organization_id = gone.organization_id AND d.environment_id = gone.environment_id
         AND d.webhook_id = gone.webhook_id AND d.id = gone.id AND d.status <> 'attempting' RETURNING 1`,
      [before],
      'remove old deliveries',
    );
    return rows.length;
  });

/**
 * Removes events from the front, up to the first that is young, not a delivery yet, or shown by a delivery; the
 * place up to which they are gone moves in the same statement, so that no reader skips what it cannot see.
 */
const removeEvents = (sql: Sql, before: string): Promise<void> =>
  inSteps(async () => {
    const [row] = await sql.query<{ removed: bigint }>(
      `WITH keep AS MATERIALIZED (
         SELECT least((SELECT horizon FROM event_places WHERE name = 'deliveries'),
           (SELECT min(horizon) FROM webhook_deliveries WHERE status = 'attempting'),
           (SELECT min(oldest.horizon) FROM webhooks w CROSS JOIN LATERAL (
              SELECT d.horizon FROM webhook_deliveries d
              WHERE d.organization_id = w.organization_id AND d.environment_id = w.environment_id
                AND d.webhook_id = w.id AND d.horizon IS NOT NULL
              ORDER BY d.created_at FETCH FIRST 1 ROW WITH TIES) oldest)) AS horizon),
       front AS MATERIALIZED (
         SELECT e.* FROM (SELECT organization_id, environment_id, horizon, seq, at FROM events
           ORDER BY horizon, seq LIMIT ${STEP}) e, keep
         WHERE e.horizon < keep.horizon),
       old AS MATERIALIZED (
         SELECT f.* FROM front f WHERE (f.horizon, f.seq) < ALL (
           SELECT y.horizon, y.seq FROM front y WHERE y.at >= $1::timestamptz - interval '${EVENTS_LONGER_DAYS} days')),
       gone AS (
         DELETE FROM events e USING old o WHERE e.organization_id = o.organization_id
           AND e.environment_id = o.environment_id AND e.horizon = o.horizon AND e.seq = o.seq
         RETURNING e.horizon, e.seq),
       moved AS (
         UPDATE event_places p SET horizon = last.horizon, seq = last.seq
         FROM (SELECT horizon, seq FROM gone ORDER BY horizon DESC, seq DESC LIMIT 1) last
         WHERE p.name = 'removed' AND (p.horizon, p.seq) < (last.horizon, last.seq))
       SELECT count(*) AS removed FROM gone`,
      [before],
      'remove old events',
    );
    return Number(row?.removed ?? 0n);
  });

/**
 * Removes what is older than `before`, and secrets whose handoff is over. In this order: what is given up need not be
 * kept, and an event goes only when no delivery shows it.
 */
export async function removeOld(sql: Sql, before: string, at: string): Promise<{ given_up: GivenUp[] }> {
  await abandonDeleted(sql, at);
  const given_up = await abandonStopped(sql, before, at);
  await sql.query(
    'UPDATE webhooks SET previous_secret = NULL, previous_until = NULL WHERE previous_until < $1',
    [at],
    'forget previous secrets',
  );
  await removeDeliveries(sql, before);
  await removeEvents(sql, before);
  return { given_up };
}
