import type { Logger } from 'pino';
import type { Alarm } from '../core/alarm.ts';
import { timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import type { Route } from '../core/http.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Vault } from '../core/vault.ts';
import { createBodies, type Bodies, type ShowPayment } from './body.ts';
import { CHANNELS } from './channels.ts';
import { Courier } from './courier.ts';
import { deliveryRoutes } from './delivery-routes.ts';
import { eventRoutes } from './event-routes.ts';
import { Fan } from './fan.ts';
import { addGauges } from './gauges.ts';
import { Hub } from './hub.ts';
import { Membership } from './membership.ts';
import type { Resolve } from './resolve.ts';
import { removeOld } from './retention.ts';
import { registrationRoutes } from './routes.ts';
import { withdrawnKeys } from './store.ts';
import { openNetwork, type Network } from './target.ts';

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
  sweep(): Promise<unknown>;
}

/** An attempt that has no answer by then has failed. */
const TIMEOUT_MS = 15_000;
const HOUR_MS = 3_600_000;
/** The slice: its routes, and what runs behind them. */
export function createWebhooks(deps: WebhooksDeps): Webhooks {
  const { db, clock, log, alarm, metrics, config } = deps;
  const bodies = createBodies(deps.show);
  const network = openNetwork(deps.resolve, TIMEOUT_MS);
  const membership = new Membership({ db, log });
  const written = createWritten();
  const courier = new Courier({
    db,
    clock,
    log,
    vault: deps.vault,
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
  const withdrawn = (key_ids: readonly string[]) => withdrawnKeys(db, key_ids, timeText(clock.now()));
  const hub = new Hub({ db, log, bodies, withdrawn });
  const fan = new Fan({ db, clock, log, alarm, courier, membership, startOver: () => hub.startOver() });
  addGauges(metrics, db, hub);

  function listen(): void {
    alarm.listen(CHANNELS.events, (last) => {
      written.upTo(last);
      hub.wake(last);
      fan.wake(last);
    });
    alarm.listen(CHANNELS.webhooks, () => {
      fan.wanted();
      courier.look();
    });
  }

  return {
    routes: routesOf(deps, network, bodies, hub),
    async start() {
      listen();
      await membership.start(() => courier.look());
      courier.start();
      fan.start();
      hub.start();
    },
    endStreams: () => hub.stop(),
    async stop() {
      await fan.stop();
      await courier.stop();
      await membership.stop();
      await network.close();
    },
    sweep: createSweep(deps),
  };
}

function routesOf(deps: WebhooksDeps, network: Network, bodies: Bodies, hub: Hub): Route[] {
  const { db, clock, vault, config, cursor_secret, alarm } = deps;
  const changed = (): void => alarm.ring(CHANNELS.webhooks);
  const { allow_private, max_per_environment } = config;
  const own = {
    db,
    clock,
    vault,
    network,
    allow_private,
    max_per_environment,
    changed,
    bodies,
    cursor_secret,
  };
  return [...registrationRoutes(own), ...deliveryRoutes(own), ...eventRoutes({ db, hub, bodies, config })];
}

/** Events that were written since it was last asked. */
function createWritten() {
  let last_seen = 0n;
  let last_asked = 0n;
  return {
    upTo(last: bigint): void {
      if (last > last_seen) last_seen = last;
    },
    since(): number {
      const written = Number(last_seen - last_asked);
      last_asked = last_seen;
      return written;
    },
  };
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
