import { setTimeout as sleep } from 'node:timers/promises';
import { timeText } from '../core/clock.ts';
import type { Vault } from '../core/vault.ts';
import { Line, MAX_HELD, type Receiver } from './line.ts';
import { readDue, type DueDelivery } from './queue.ts';
import { Sender, type SenderDeps } from './sender.ts';
import { readActive, refOfKey, secretOwner, webhookKey, type ActiveWebhook } from './store.ts';

// Which registrations have what to send, and how much of it is in memory. What was just made is appended to its line
// without a query where the line is known to hold all that is due; wherever that is in doubt, the database is asked.
// Whatever is forgotten here is found again by its time: memory is never the only place of a delivery (threat 14).

export interface CourierDeps extends SenderDeps {
  vault: Vault;
  allow_private: boolean;
  /** Events that this process has written since it was last asked. */
  written(): number;
}

const TICK_MS = 200;
/** Share of the time in which this process works, and events in a tick, from which on payments need all of it. */
const FULL = 0.85;
const MANY = 40;
/** Everything is looked at this often: what an alarm that was not heard has changed waits no longer. */
const FULL_LOOK_MS = 5000;
const STOP_WAIT_MS = 5000;
/** After a look another one waits: what is asked for meanwhile is gathered. Longer after a look at many registrations. */
const GATHER_MS = 5;
const LINES_PER_GATHER_MS = 20;
/** Registrations that are filled with one statement. */
const FILLED_AT_ONCE = 100;
/** Deliveries that wait in memory in all: many registrations with much to send each hold less of it. */
const MAX_WAITING = 100_000;
const LEAST_HELD = 50;

const keyOf = ({ organization_id, environment_id, webhook_id: id }: DueDelivery): string =>
  webhookKey({ organization_id, environment_id, id });

/** How a registration is reached, with its secrets open; throws where one does not open. */
function receiverOf({ vault, clock, allow_private }: CourierDeps, webhook: ActiveWebhook): Receiver {
  const owner = secretOwner(webhook);
  const { previous_secret: previous, previous_until, failing_since, failing_at } = webhook;
  const handing_over = previous !== null && Date.parse(previous_until ?? '') > clock.now();
  return {
    url: webhook.url,
    secret: vault.open(webhook.secret, owner),
    previous_secret: handing_over ? vault.open(previous, owner) : null,
    // By what this server allows now: it may have been registered where more was allowed.
    allow_private: allow_private && webhook.environment_kind === 'staging',
    failing_since,
    failing_at,
  };
}

/** Sends what is due, each registration by itself. */
export class Courier {
  readonly #deps: CourierDeps;
  readonly #sender: Sender;
  readonly #lines = new Map<string, Line>();
  /** Registrations whose secrets do not open: each is said once. */
  readonly #sealed = new Set<string>();
  /** Registrations to look at in the next pass; all of them when `#all`. */
  #wanted = new Set<string>();
  #all = true;
  #ready = false;
  #passing: { all: boolean; keys: ReadonlySet<string> } | null = null;
  #running: Promise<void> | null = null;
  #stopped = true;
  #timer: NodeJS.Timeout | null = null;
  #full_at = 0;
  #loop_used = performance.eventLoopUtilization();

  constructor(deps: CourierDeps) {
    this.#deps = deps;
    this.#sender = new Sender(deps, (line) => this.#wanted.add(line.key));
  }

  /** Deliveries that this process has just made. */
  offer(fresh: readonly DueDelivery[]): void {
    const offered = new Set<Line>();
    for (const delivery of fresh) {
      if (!this.#deps.membership.owns(delivery.shard)) continue;
      const key = keyOf(delivery);
      const line = this.#lines.get(key);
      if (line) offered.add(line);
      if (line && this.#isCurrent(line) && line.add(delivery)) continue;
      line?.doubt();
      // A line with enough to send is filled when it has little left.
      if (!line || line.wants_more) this.#wanted.add(key);
    }
    for (const line of offered) this.#sender.pump(line);
    this.#run();
  }

  /** Registrations, shards or deliveries changed, here or elsewhere: what is in memory is not all that is due. */
  look(): void {
    for (const line of this.#lines.values()) line.doubt();
    this.#all = true;
    this.#run();
  }

  start(): void {
    this.#stopped = false;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#run();
  }

  /** Ends after the attempts under way, or a moment. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer) clearInterval(this.#timer);
    await this.#running;
    const give_up_at = performance.now() + STOP_WAIT_MS;
    // What is under way is waited for: an attempt that is not recorded is made again after the start.
    for (const line of this.#lines.values()) line.drop();
    while ([...this.#lines.values()].some((line) => !line.idle) && performance.now() < give_up_at) {
      await sleep(20);
    }
    await this.#sender.stop();
  }

  /** All that is due is in memory, and no answer of the database is under way that is older. */
  #isCurrent(line: Line): boolean {
    const passing = this.#passing;
    return this.#ready && line.complete && !(passing && (passing.all || passing.keys.has(line.key)));
  }

  /** Payments come first: a delivery may be late, a payment must not be. */
  #giveWay(): void {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, this.#loop_used);
    this.#loop_used = now;
    // Asked at every tick, since it counts from one to the next.
    const events = this.#deps.written();
    this.#sender.giveWay(utilization > FULL && events > MANY);
  }

  #tick(): void {
    this.#giveWay();
    const now_ms = this.#deps.clock.now();
    for (const line of this.#lines.values()) {
      if (line.due_ms <= now_ms || line.wants_more) this.#wanted.add(line.key);
    }
    if (performance.now() > this.#full_at) {
      this.#full_at = performance.now() + FULL_LOOK_MS;
      this.#all = true;
    }
    this.#run();
  }

  #run(): void {
    if (this.#stopped || this.#running || (!this.#all && this.#wanted.size === 0)) return;
    const gather_ms = this.#all ? GATHER_MS + this.#lines.size / LINES_PER_GATHER_MS : GATHER_MS;
    this.#running = this.#pass()
      .catch((error: unknown) => {
        if (!this.#stopped) {
          this.#deps.log.warn({ err: error }, 'deliveries not read, will be tried again');
        }
        return sleep(TICK_MS);
      })
      .finally(() => {
        this.#running = null;
        // Passes share the processor with sending.
        setTimeout(() => this.#run(), gather_ms);
      });
  }

  async #pass(): Promise<void> {
    const mine = { all: this.#all, keys: this.#wanted };
    this.#all = false;
    this.#wanted = new Set();
    this.#passing = mine;
    try {
      const lines = await this.#readLines(mine);
      for (let index = 0; index < lines.length; index += FILLED_AT_ONCE) {
        await this.#fill(lines.slice(index, index + FILLED_AT_ONCE), mine.all);
      }
      if (mine.all) this.#ready = true;
    } catch (error) {
      // Not looked at: asked for again, beside what was asked for meanwhile.
      this.#all ||= mine.all;
      for (const key of mine.keys) this.#wanted.add(key);
      throw error;
    } finally {
      this.#passing = null;
    }
  }

  /** Brings lines and registrations together; answers the lines of those that were asked for and are active. */
  async #readLines({ all, keys }: { all: boolean; keys: ReadonlySet<string> }): Promise<Line[]> {
    const { db, log } = this.#deps;
    const active = await readActive(db, all ? null : [...keys].map(refOfKey));
    const open = new Set<Line>();
    for (const webhook of active) {
      const key = webhookKey(webhook);
      try {
        open.add(this.#lineOf(key, receiverOf(this.#deps, webhook)));
        this.#sealed.delete(key);
      } catch (error) {
        // That registration waits, and no other waits for it.
        const fields = { err: error, webhook_id: webhook.id };
        if (!this.#sealed.has(key)) log.error(fields, 'webhook not called: its secret does not open');
        this.#sealed.add(key);
      }
    }
    for (const [key, line] of this.#lines) {
      if (open.has(line) || !(all || keys.has(key))) continue;
      // Stopped, deleted, or its secret does not open: what is under way still ends and is recorded.
      line.drop();
      line.due_ms = Number.POSITIVE_INFINITY;
      if (line.idle) this.#lines.delete(key);
    }
    return [...open];
  }

  #lineOf(key: string, receiver: Receiver): Line {
    const line = this.#lines.get(key) ?? new Line(key, receiver);
    line.receiver = receiver;
    this.#lines.set(key, line);
    return line;
  }

  /** Also those that have enough, when `full`: what waits in them may have been abandoned. */
  async #fill(lines: readonly Line[], full: boolean): Promise<void> {
    const { db, clock, membership } = this.#deps;
    // Asked for beside what is held: the answer has that, too, in its place among the first.
    const most = Math.min(MAX_HELD, Math.max(LEAST_HELD, Math.floor(MAX_WAITING / this.#lines.size)));
    const asked = lines
      .filter((line) => full || line.waiting < most)
      .map((line) => ({ line, limit: line.held + most, question: line.ask() }));
    const { deliveries, next } = await readDue(
      db,
      asked.map(({ line, limit }) => ({ ...refOfKey(line.key), limit })),
      membership.shards(),
      timeText(clock.now()),
    );
    const found = Map.groupBy(deliveries, keyOf);
    const next_due = new Map(next.map((row) => [webhookKey(row), Date.parse(row.run_at)]));
    for (const { line, limit, question } of asked) {
      const due = found.get(line.key) ?? [];
      line.keepOpen(due, limit);
      // `every` stops at the first that finds no room: what is added stays in order.
      const fitted = due.every((delivery) => line.add(delivery));
      line.answered(question, fitted && due.length < limit);
      line.due_ms = next_due.get(line.key) ?? Number.POSITIVE_INFINITY;
      this.#sender.pump(line);
    }
  }
}
