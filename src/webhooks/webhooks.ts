import type { Logger } from 'pino';
import { createFollower, type Alarm } from '../core/alarm.ts';
import { timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { isAfter, type EventPlace } from '../core/events.ts';
import type { Route } from '../core/http.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Vault } from '../core/vault.ts';
import { createBodies, type ShowPayment } from './body.ts';
import { Courier } from './courier.ts';
import { deliveryRoutes } from './delivery-routes.ts';
import { eventRoutes } from './event-routes.ts';
import { fanOut, MOST_EVENTS } from './fanout.ts';
import { createHub } from './hub.ts';
import { createMembership } from './membership.ts';
import { addGauges } from './gauges.ts';
import { comeDown, COUNTED_ANEW } from './restore.ts';
import type { Resolve } from './resolve.ts';
import { removeOld } from './retention.ts';
import { registrationRoutes } from './routes.ts';
import { openNetwork } from './target.ts';

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

/** The channels of the alarm that this slice rings and hears; the first is rung by whoever wrote events. */
export const CHANNELS = { events: 'coulomb_events', webhooks: 'coulomb_webhooks' } as const;

/** An attempt that has no answer by then has failed. */
const TIMEOUT_MS = 15_000;
const HOUR_MS = 3_600_000;
/** From so many deliveries at once on, those that follow are gathered for a moment. */
const BUSY = 24;
const GATHER_MS = 20;
/** While nobody has a webhook, its place in the events is moved on this often. */
const UNWANTED_MS = 1000;

export function createWebhooks(deps: WebhooksDeps): Webhooks {
  const { db, clock, log, alarm, config } = deps;
  const bodies = createBodies(deps.show);
  const network = openNetwork(deps.resolve, TIMEOUT_MS);
  const membership = createMembership({ db, log });
  const attempts = deps.metrics.counter(
    'coulomb_webhook_attempts_total',
    'Attempts to deliver, by what they brought',
    'result',
  );
  const givenUp = deps.metrics.counter(
    'coulomb_webhook_deliveries_given_up_total',
    'Deliveries that nobody ended and that were given up, by the reason',
    'reason',
  );
  let last_seen = 0n;
  let last_asked = 0n;
  const courier = new Courier({
    written() {
      const written = Number(last_seen - last_asked);
      last_asked = last_seen;
      return written;
    },
    db,
    clock,
    log,
    vault: deps.vault,
    network,
    membership,
    bodies,
    allow_private: config.allow_private,
    stop_after_ms: config.stop_after_hours * HOUR_MS,
    timeout_ms: TIMEOUT_MS,
    attempted: attempts,
  });
  const withdrawn = async (key_ids: readonly string[]): Promise<Set<string>> => {
    const rows = await db.query<{ id: string }>(
      `SELECT k.id FROM unnest($1::uuid[]) AS k(id) WHERE NOT EXISTS (
         SELECT 1 FROM api_keys a WHERE a.id = k.id AND a.revoked_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > $2))`,
      [key_ids, timeText(clock.now())],
      'keys of streams',
    );
    return new Set(rows.map(({ id }) => id));
  };
  const hub = createHub({ db, log, bodies, withdrawn });
  const fan = createFan(deps, courier, membership, hub.startOver);
  const changed = (): void => alarm.ring(CHANNELS.webhooks);
  const route_deps = {
    db,
    clock,
    vault: deps.vault,
    network,
    allow_private: config.allow_private,
    max_per_environment: config.max_per_environment,
    changed,
    bodies,
    cursor_secret: deps.cursor_secret,
  };
  addGauges(deps.metrics, db, hub);
  return {
    routes: [
      ...registrationRoutes(route_deps),
      ...deliveryRoutes(route_deps),
      ...eventRoutes({ db, hub, bodies, config }),
    ],
    async start() {
      alarm.listen(CHANNELS.events, (last) => {
        if (last > last_seen) last_seen = last;
        hub.wake(last);
        fan.wake(last);
      });
      alarm.listen(CHANNELS.webhooks, () => {
        fan.wanted();
        courier.look();
      });
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
    async sweep() {
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
    },
  };
}

/** Turns events into deliveries as they come. */
function createFan(
  { db, clock, log, alarm }: WebhooksDeps,
  courier: Courier,
  membership: ReturnType<typeof createMembership>,
  /** The order of events was counted anew. */
  startOver: () => void,
) {
  let unwanted_until = 0;
  let at_once = MOST_EVENTS;
  let passed: EventPlace | null = null;

  /** Fewer events at once where so many registrations want them that the time of a statement was not enough. */
  async function pass(): ReturnType<typeof fanOut> {
    try {
      const out = await fanOut(db, timeText(clock.now()), at_once);
      at_once = Math.min(MOST_EVENTS, at_once * 2);
      return out;
    } catch (error) {
      at_once = Math.ceil(at_once / 4);
      throw error;
    }
  }

  async function run(): Promise<bigint | null> {
    if (performance.now() < unwanted_until) return null;
    let seen = 0n;
    for (;;) {
      const out = await pass();
      // Another server holds the place and tells when it is done.
      if (!out) return null;
      if (out.beyond && (await comeDown(db))) {
        log.warn(COUNTED_ANEW);
        continue;
      }
      if (passed && isAfter(passed, out.from)) startOver();
      if (passed && (passed.horizon !== out.from.horizon || passed.seq !== out.from.seq)) courier.missed();
      passed = out.to;
      if (!out.wanted) {
        unwanted_until = performance.now() + UNWANTED_MS;
        return null;
      }
      courier.offer(out.fresh);
      if (out.fresh.some(({ shard }) => !membership.owns(shard))) alarm.ring(CHANNELS.webhooks);
      if (out.seen > seen) seen = out.seen;
      if (out.more) continue;
      // While much happens, a transaction for each moment would take what the payments need.
      if (out.fresh.length >= BUSY) await new Promise((done) => setTimeout(done, GATHER_MS));
      return seen;
    }
  }

  const follower = createFollower(log, 'events not made deliveries', run);
  return {
    ...follower,
    wanted() {
      unwanted_until = 0;
      follower.wake(0n);
    },
  };
}
