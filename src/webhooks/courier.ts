import { timeText } from '../core/clock.ts';
import type { Vault } from '../core/vault.ts';
import type { Delivery } from './deliveries.ts';
import type { Fresh } from './fanout.ts';
import { Line, MAX_HELD, type Receiver } from './line.ts';
import { readActive, readDue, type ActiveWebhook } from './queue.ts';
import { createSender, type SenderDeps } from './sender.ts';
import { refOfKey, secretOwner, webhookKey, type WebhookRef } from './store.ts';

export interface CourierDeps extends SenderDeps {
  vault: Vault;
  allow_private: boolean;
  /** Events that this process has written since it was last asked. */
  written(): number;
}

/** Sends what is due, each registration by itself. */
export interface Courier {
  /** Deliveries that this process has just made. */
  offer(fresh: readonly Fresh[]): void;
  /** Something was changed, here or elsewhere: look at all registrations. */
  look(): void;
  /** Others made deliveries: what is in memory is not all that is due. */
  missed(): void;
  start(): void;
  /** Ends after the attempts under way, or a moment. */
  stop(): Promise<void>;
}

const TICK_MS = 200;
/** Share of the time in which this process works, and events in a tick, from which on payments need all of it. */
const FULL = 0.85;
const MANY = 40;
const FULL_LOOK_MS = 5000;
const STOP_WAIT_MS = 5000;

const refOfDelivery = (delivery: Delivery): WebhookRef => ({
  organization_id: delivery.organization_id,
  environment_id: delivery.environment_id,
  id: delivery.webhook_id,
});
const keyOf = (delivery: Delivery): string => webhookKey(refOfDelivery(delivery));
/** How a registration is reached, with its secrets open. */
function receiverOf(deps: CourierDeps, webhook: ActiveWebhook): Receiver {
  const owner = secretOwner(webhook);
  const handing_over =
    webhook.previous_secret !== null && Date.parse(webhook.previous_until ?? '') > deps.clock.now();
  return {
    url: webhook.url,
    secret: deps.vault.open(webhook.secret, owner),
    previous_secret: handing_over ? deps.vault.open(webhook.previous_secret ?? '', owner) : null,
    allow_private: deps.allow_private && webhook.environment_kind === 'staging',
    failing_since: webhook.failing_since,
    failing_at: webhook.failing_at,
  };
}

/** Null where a secret does not open: that registration waits, and no other waits for it. Said once. */
function openReceiver(deps: CourierDeps, webhook: ActiveWebhook, sealed: Set<string>): Receiver | null {
  const key = webhookKey(webhook);
  try {
    const receiver = receiverOf(deps, webhook);
    sealed.delete(key);
    return receiver;
  } catch (error) {
    if (!sealed.has(key)) {
      deps.log.error({ err: error, webhook_id: webhook.id }, 'webhook not called: its secret does not open');
    }
    sealed.add(key);
    return null;
  }
}

/** Payments come first: a delivery may be late, a payment must not be. */
function createGiveWay(written: () => number, giveWay: (to_payments: boolean) => void): () => void {
  let used = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, used);
    used = now;
    const events = written();
    giveWay(utilization > FULL && events > MANY);
  };
}

export function createCourier(deps: CourierDeps): Courier {
  const { db, clock, log, membership } = deps;
  const lines = new Map<string, Line>();
  /** Registrations whose secrets do not open. */
  const sealed = new Set<string>();
  /** Registrations to look at in the next pass; all of them when `all`. */
  let wanted = new Set<string>();
  let all = true;
  let ready = false;
  let passing: { all: boolean; keys: ReadonlySet<string> } | null = null;
  let running: Promise<void> | null = null;
  let stopped = true;
  let timer: NodeJS.Timeout | null = null;
  let full_at = 0;

  const sender = createSender(deps, (line) => wanted.add(line.key));

  const giveWay = createGiveWay(deps.written, sender.giveWay);

  async function pass(): Promise<void> {
    const mine = { all, keys: wanted };
    all = false;
    wanted = new Set();
    passing = mine;
    try {
      const refs = mine.all ? null : [...mine.keys].map(refOfKey);
      const active = await readActive(db, refs);
      const keys = new Set(active.map(webhookKey));
      for (const webhook of active) {
        const key = webhookKey(webhook);
        const line = lines.get(key);
        const receiver = openReceiver(deps, webhook, sealed);
        if (!receiver) keys.delete(key);
        else if (line) line.receiver = receiver;
        else lines.set(key, new Line(key, receiver));
      }
      for (const [key, line] of lines) {
        if ((mine.all || mine.keys.has(key)) && !keys.has(key)) {
          line.drop();
          line.due_ms = Number.POSITIVE_INFINITY;
          if (line.idle) lines.delete(key);
        }
      }
      const looked = [...keys].flatMap((key) => lines.get(key) ?? []);
      await refill(looked, mine.all);
      if (mine.all) ready = true;
    } catch (error) {
      all ||= mine.all;
      for (const key of mine.keys) wanted.add(key);
      throw error;
    } finally {
      passing = null;
    }
  }

  /** Also those that have enough, when `full`: what waits in them may have been abandoned. */
  async function refill(looked: readonly Line[], full: boolean): Promise<void> {
    const now_ms = clock.now();
    const asked = looked
      .filter((line) => full || line.waiting < MAX_HELD)
      .map((line) => {
        line.ended.clear();
        return { line, limit: line.held + MAX_HELD };
      });
    const { deliveries, next } = await readDue(
      db,
      asked.map(({ line, limit }) => ({ ...refOfKey(line.key), limit })),
      membership.shards(),
      timeText(now_ms),
    );
    const found = Map.groupBy(deliveries, keyOf);
    const next_due = new Map(next.map((row) => [webhookKey(row), Date.parse(row.run_at)]));
    for (const { line, limit } of asked) {
      const due = found.get(line.key) ?? [];
      line.keepOpen(due, limit);
      // `every` stops at the first that finds no room: what is added stays in order.
      const fitted = due.every((delivery) => line.add({ delivery, event: null }));
      line.complete = fitted && due.length < limit && !wanted.has(line.key) && !all;
      line.due_ms = next_due.get(line.key) ?? Number.POSITIVE_INFINITY;
      sender.pump(line);
    }
  }

  function run(): void {
    if (stopped || running || (!all && wanted.size === 0)) return;
    running = pass()
      .catch((error: unknown) => {
        if (!stopped) log.warn({ err: error }, 'deliveries not read, will be tried again');
        return new Promise<void>((done) => setTimeout(done, TICK_MS));
      })
      .finally(() => {
        running = null;
        // Passes share the processor with sending: what was asked for meanwhile is gathered a moment.
        setTimeout(run, 5);
      });
  }

  function tick(): void {
    giveWay();
    const now_ms = clock.now();
    for (const line of lines.values()) {
      if (line.due_ms <= now_ms || line.wants_more) wanted.add(line.key);
    }
    if (performance.now() > full_at) {
      full_at = performance.now() + FULL_LOOK_MS;
      all = true;
    }
    run();
  }

  return {
    offer(fresh) {
      for (const { delivery, event } of fresh) {
        if (!membership.owns(delivery.shard)) continue;
        const key = keyOf(delivery);
        const line = lines.get(key);
        const direct = ready && line?.complete && !(passing && (passing.all || passing.keys.has(key)));
        if (direct && line.add({ delivery, event })) continue;
        if (line) line.complete = false;
        wanted.add(key);
      }
      for (const key of new Set(fresh.map(({ delivery }) => keyOf(delivery)))) {
        const line = lines.get(key);
        if (line) sender.pump(line);
      }
      run();
    },
    look() {
      all = true;
      run();
    },
    missed() {
      for (const line of lines.values()) line.complete = false;
      all = true;
      run();
    },
    start() {
      stopped = false;
      timer = setInterval(tick, TICK_MS);
      run();
    },
    async stop() {
      stopped = true;
      if (timer) clearInterval(timer);
      await running;
      const give_up_at = performance.now() + STOP_WAIT_MS;
      for (const line of lines.values()) line.drop();
      while ([...lines.values()].some((line) => !line.idle) && performance.now() < give_up_at) {
        await new Promise((done) => setTimeout(done, 20));
      }
      await sender.stop();
    },
  };
}
