import type { Database } from '../core/db.ts';
import { READABLE_BELOW } from '../core/events.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Hub } from './hub.ts';

/** What an operator watches: what waits, since when, and whether a transaction holds everybody back. */
export function addGauges(metrics: Metrics, db: Database, hub: Hub): void {
  metrics.gauge('coulomb_event_streams', 'Event streams that are open', [], () =>
    Promise.resolve([[{}, hub.count()]]),
  );
  metrics.gauge('coulomb_webhooks', 'Registrations, by status', ['status'], async () => {
    const rows = await db.query<{ status: string; count: bigint }>(
      'SELECT status, count(*) AS count FROM webhooks GROUP BY status',
    );
    return rows.map(({ status, count }) => [{ status }, Number(count)]);
  });
  metrics.gauge('coulomb_webhook_deliveries_open', 'Deliveries that did not end yet', [], async () => {
    const [row] = await db.query<{ count: bigint }>(
      `SELECT count(*) AS count FROM webhook_deliveries WHERE status = 'attempting'`,
    );
    return [[{}, Number(row?.count ?? 0n)]];
  });
  metrics.gauge(
    'coulomb_webhook_failing_seconds',
    'How long the registration that fails longest has only failed',
    [],
    async () => {
      const [row] = await db.query<{ age: number | null }>(
        `SELECT extract(epoch FROM now() - min(failing_since))::float8 AS age FROM webhooks WHERE status = 'active'`,
      );
      return [[{}, row?.age ?? 0]];
    },
  );
  metrics.gauge('coulomb_events_behind', 'Events that are not deliveries yet', [], async () => {
    const [row] = await db.query<{ count: bigint }>(
      `SELECT count(*) AS count FROM events e, event_places p
       WHERE p.name = 'deliveries' AND (e.horizon, e.seq) > (p.horizon, p.seq)`,
    );
    return [[{}, Number(row?.count ?? 0n)]];
  });
  metrics.gauge(
    'coulomb_oldest_transaction_age',
    'Transactions that began since the oldest one under way: readers of events wait for that one',
    [],
    async () => {
      const [row] = await db.query<{ age: bigint }>(
        `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - ${READABLE_BELOW} AS age`,
      );
      return [[{}, Number(row?.age ?? 0n)]];
    },
  );
}
