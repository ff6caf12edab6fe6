import type { Logger } from 'pino';
import type { Alarm } from '../core/alarm.ts';
import { createTimestamps, timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { READABLE_BELOW } from '../core/events.ts';
import type { Route } from '../core/http.ts';
import type { Metrics } from '../core/metrics.ts';
import { maxOf } from '../core/money.ts';
import type { Vault } from '../core/vault.ts';
import { Courier } from './courier.ts';
import { deliveryRoutes } from './delivery-routes.ts';
import { eventRoutes } from './event-routes.ts';
import { CHANNELS, Fan } from './fanout.ts';
import { Hub } from './hub.ts';
import { Membership } from './membership.ts';
import { createBodies, type ShowPayment } from './messages.ts';
import { removeOld } from './retention.ts';
import { registrationRoutes } from './routes.ts';
import { openNetwork, type Resolve } from './target.ts';

// The slice put together: its routes, what runs behind them, and what an operator sees of it. The way of an event is
// fanout (deliveries) -> courier (lines) -> sender (attempts) -> recorder, and beside it hub (open streams).

export interface WebhookConfig {
  allow_private: boolean;
  stop_after_hours: number;
  kept_days: number;
  max_per_environment: number;
  max_streams: number;
  max_streams_per_environment: number;
}

export interface WebhooksDeps {
  db: Database;
  clock: Clock;
  log: Logger;
  vault: Vault;
  alarm: Alarm;
  metrics: Metrics;
  config: WebhookConfig;
  cursor_secret: Buffer;
  resolve: Resolve;
  show: ShowPayment;
}

export interface Webhooks {
  routes: Route[];
  start(): Promise<void>;
  /** Ends the streams, so that the server can close; sending ends with `stop`. */
  endStreams(): Promise<void>;
  stop(): Promise<void>;
  /** Removes what is older than it is kept. */
  sweep(): Promise<void>;
}

/** An attempt that has no answer by then has failed. */
const TIMEOUT_MS = 15_000;
const HOUR_MS = 3_600_000;

export function createWebhooks(deps: WebhooksDeps): Webhooks {
  const { db, clock, alarm, metrics, config } = deps;
  const bodies = createBodies(deps.show);
  const network = openNetwork(deps.resolve, TIMEOUT_MS);
  const membership = new Membership(deps);
  const written = createWritten();
  const courier = new Courier({
    ...deps,
    network,
    membership,
    bodies,
    written: written.since,
    allow_private: config.allow_private,
    stop_after_ms: config.stop_after_hours * HOUR_MS,
    timeout_ms: TIMEOUT_MS,
    attempted: metrics.counter(
      'coulomb_webhook_attempts_total',
      'Attempts to deliver, by what they brought',
      'result',
    ),
  });
  const hub = new Hub({ ...deps, bodies });
  const fan = new Fan({ ...deps, courier, membership, startOver: () => hub.startOver() });
  addGauges(metrics, db, hub);
  const changed = (): void => alarm.ring(CHANNELS.webhooks);
  const own = { ...deps, ...config, network, bodies, hub, changed, time: createTimestamps(clock) };

  return {
    routes: [...registrationRoutes(own), ...deliveryRoutes(own), ...eventRoutes(own)],
    async start() {
      alarm.listen(CHANNELS.events, (last) => {
        written.upTo(last);
        hub.wake(last);
        fan.wake(last);
      });
      alarm.listen(CHANNELS.webhooks, () => {
        fan.wanted();
        courier.look();
      });
      // Shards first: what is made before it is known which of them are sent here would wait for the next look.
      await membership.start(() => courier.look());
      courier.start();
      fan.start();
      hub.start();
    },
    endStreams: () => hub.stop(),
    async stop() {
      // Against the current: nothing new is made, what is under way ends and is recorded, then others may have the shards.
      await fan.stop();
      await courier.stop();
      await membership.stop();
      await network.close();
    },
    sweep: createSweep(deps),
  };
}

/** Events that this process has written since it was last asked; rings of other servers name no number. */
function createWritten() {
  let last_seen = 0n;
  let last_asked = 0n;
  return {
    upTo(last: bigint): void {
      last_seen = maxOf(last_seen, last);
    },
    since(): number {
      const written = Number(last_seen - last_asked);
      last_asked = last_seen;
      return written;
    },
  };
}

/** What an operator watches: what waits, since when, and whether a transaction holds everybody back. */
function addGauges(metrics: Metrics, db: Database, hub: Hub): void {
  const single = (name: string, help: string, sql: string): void =>
    metrics.gauge(name, help, [], async () => {
      const [row] = await db.query<{ value: bigint | number | null }>(sql);
      return [[{}, Number(row?.value ?? 0)]];
    });
  metrics.gauge('coulomb_event_streams', 'Event streams that are open', [], () => [[{}, hub.count()]]);
  metrics.gauge('coulomb_webhooks', 'Registrations, by status', ['status'], async () => {
    const rows = await db.query<{ status: string; count: bigint }>(
      'SELECT status, count(*) AS count FROM webhooks GROUP BY status',
    );
    return rows.map(({ status, count }) => [{ status }, Number(count)]);
  });
  single(
    'coulomb_webhook_deliveries_open',
    'Deliveries that did not end yet',
    `SELECT count(*) AS value FROM webhook_deliveries WHERE status = 'attempting'`,
  );
  single(
    'coulomb_webhook_failing_seconds',
    'How long the registration that fails longest has only failed',
    `SELECT extract(epoch FROM now() - min(failing_since))::float8 AS value FROM webhooks WHERE status = 'active'`,
  );
  single(
    'coulomb_events_behind',
    'Events that are not deliveries yet',
    `SELECT count(*) AS value FROM events e, event_places p
     WHERE p.name = 'deliveries' AND (e.horizon, e.seq) > (p.horizon, p.seq)`,
  );
  single(
    'coulomb_oldest_transaction_age',
    'Transactions that began since the oldest one under way: readers of events wait for that one',
    `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - ${READABLE_BELOW} AS value`,
  );
}

function createSweep({ db, clock, log, metrics, config }: WebhooksDeps): () => Promise<void> {
  const givenUp = metrics.counter(
    'coulomb_webhook_deliveries_given_up_total',
    'Deliveries that nobody ended and that were given up, by the reason',
    'reason',
  );
  return async () => {
    const now_ms = clock.now();
    const before = timeText(now_ms - config.kept_days * 24 * HOUR_MS);
    const { given_up } = await removeOld(db, before, timeText(now_ms));
    for (const { count, ...webhook } of given_up) {
      givenUp('stopped', Number(count));
      log.warn(
        { ...webhook, count },
        'deliveries given up: the webhook is stopped, and events are not kept for ever',
      );
    }
  };
}
