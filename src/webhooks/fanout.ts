import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { createFollower, type Alarm, type Follower } from '../core/alarm.ts';
import { timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { END_OF_HORIZON, isAfter, READABLE_BELOW, type EventPlace } from '../core/events.ts';
import type { Courier } from './courier.ts';
import { SHARD_OF } from './deliveries.ts';
import type { Membership } from './membership.ts';
import { AHEAD, DUE_COLUMNS, type DueDelivery } from './queue.ts';
import { comeDown, COUNTED_ANEW } from './restore.ts';

// Events become deliveries here, in the background: a payment's transaction writes its event and knows nothing of
// webhooks. Whichever server holds the row of their place makes them; one that dies leaves it where it was committed.

/** The channels of the alarm that this slice rings and hears; the first is rung by whoever wrote events. */
export const CHANNELS = { events: 'coulomb_events', webhooks: 'coulomb_webhooks' } as const;

export interface FanOut {
  /** Whether any registration exists. */
  wanted: boolean;
  /** The place lies beyond all that can be read: the database was restored into another cluster. */
  beyond: boolean;
  /** The place before and after. */
  from: EventPlace;
  to: EventPlace;
  /** The deliveries that were made, in the order of events. */
  fresh: DueDelivery[];
  /** The highest number among the events that were passed. */
  seen: bigint;
  /** More can be read at once. */
  more: boolean;
}

/** Events per statement: enough to keep up, few enough that the first is not kept waiting. */
const MOST_EVENTS = 500;

// One statement: wherever the process dies, deliveries and place are both there or both not, and one snapshot says which
// events and registrations there are and how far the place moves. SKIP LOCKED: where another server is at it, there is
// nothing to do here.
// Due by the database's clock, never before what was made before: servers whose clocks differ must not turn the order of a
// payment's deliveries round. Without events the place moves behind all that can be read.
const FAN_OUT = `
  WITH place AS MATERIALIZED (
    SELECT horizon, seq,
      greatest(clock_timestamp(), CASE WHEN at < clock_timestamp() + ${AHEAD} THEN at END) AS due
    FROM event_places WHERE name = 'deliveries' FOR UPDATE SKIP LOCKED),
  now AS MATERIALIZED (
    SELECT ${READABLE_BELOW} AS bound, EXISTS (SELECT 1 FROM webhooks WHERE status <> 'deleted') AS wanted),
  next AS MATERIALIZED (
    SELECT e.* FROM place p CROSS JOIN now n CROSS JOIN LATERAL (
      SELECT e.organization_id, e.environment_id, e.horizon, e.seq, e.payment_id, e.type || '.' || e.event AS name
      FROM events e WHERE n.wanted AND (e.horizon, e.seq) > (p.horizon, p.seq) AND e.horizon < n.bound
      ORDER BY e.horizon, e.seq LIMIT $1) e),
  reached AS MATERIALIZED (
    SELECT coalesce(l.horizon, n.bound - 1) AS horizon, coalesce(l.seq, ${END_OF_HORIZON}) AS seq,
      (SELECT count(*) FROM next) AS events, coalesce((SELECT max(seq) FROM next), 0) AS seen
    FROM now n LEFT JOIN (SELECT horizon, seq FROM next ORDER BY horizon DESC, seq DESC LIMIT 1) l ON true),
  moved AS (
    UPDATE event_places m SET horizon = r.horizon, seq = r.seq, at = p.due FROM place p CROSS JOIN reached r
    WHERE m.name = 'deliveries' AND (m.horizon, m.seq) < (r.horizon, r.seq)),
  made AS (
    INSERT INTO webhook_deliveries AS d (organization_id, environment_id, webhook_id, id, horizon, seq, payment_id, shard,
      url, status, run_at, round_started_at, created_at, updated_at)
    SELECT w.organization_id, w.environment_id, w.id, gen_random_uuid(), e.horizon, e.seq, e.payment_id,
      ${SHARD_OF('e.payment_id')}, w.url, 'attempting', p.due, $2, $2, $2
    FROM next e CROSS JOIN place p
    JOIN webhooks w ON w.organization_id = e.organization_id AND w.environment_id = e.environment_id
      AND w.status <> 'deleted' AND w.since <= e.horizon AND e.name = ANY (w.events)
    ORDER BY e.horizon, e.seq
    RETURNING ${DUE_COLUMNS})
  SELECT p.horizon AS from_horizon, p.seq AS from_seq, n.bound, n.wanted, r.horizon AS to_horizon, r.seq AS to_seq, r.events,
    r.seen, d.*
  FROM place p CROSS JOIN now n CROSS JOIN reached r LEFT JOIN made d ON true
  ORDER BY d.horizon, d.seq`;

interface FanOutRow {
  from_horizon: bigint;
  from_seq: bigint;
  bound: bigint;
  wanted: boolean;
  to_horizon: bigint;
  to_seq: bigint;
  events: bigint;
  seen: bigint;
}

/**
 * Makes the deliveries of the next events and moves the place on, in one transaction: whoever holds the place does it,
 * nobody waits for it (null). Matching is SQL's, on what is committed: a registration that another server has just made counts.
 */
export async function fanOut(db: Database, at: string, limit: number): Promise<FanOut | null> {
  const rows = await db.query<FanOutRow & (DueDelivery | { id: null })>(
    FAN_OUT,
    [limit, at],
    'make deliveries',
  );
  const [first] = rows;
  if (!first) return null;
  const from: EventPlace = { horizon: first.from_horizon, seq: first.from_seq };
  const reached: EventPlace = { horizon: first.to_horizon, seq: first.to_seq };
  return {
    wanted: first.wanted,
    beyond: first.events === 0n && from.horizon >= first.bound,
    from,
    to: isAfter(reached, from) ? reached : from,
    fresh: rows.filter((row) => row.id !== null),
    seen: first.seen,
    more: first.events === BigInt(limit),
  };
}

export interface FanDeps {
  db: Database;
  clock: Clock;
  log: Logger;
  alarm: Alarm;
  courier: Courier;
  membership: Pick<Membership, 'owns'>;
  /** The order of events was counted anew: whoever reads them by place begins again. */
  startOver(): void;
}

/** From so many deliveries at once on, those that follow are gathered for a moment: each pass is a commit. */
const BUSY = 24;
const GATHER_MS = 20;
/** While nobody has a webhook, the place is moved on this often: events that are not needed can be removed then. */
const UNWANTED_MS = 1000;

/** Turns events into deliveries as they come. */
export class Fan {
  readonly #deps: FanDeps;
  readonly #follower: Follower;
  #unwanted_until = 0;
  #at_once = MOST_EVENTS;
  #passed: EventPlace | null = null;

  constructor(deps: FanDeps) {
    this.#deps = deps;
    this.#follower = createFollower(deps.log, 'events not made deliveries', () => this.#run());
  }

  /** Something was committed, up to this event. */
  wake(last: bigint): void {
    this.#follower.wake(last);
  }

  /** Somebody registered a webhook. */
  wanted(): void {
    this.#unwanted_until = 0;
    this.#follower.wake(0n);
  }

  start(): void {
    this.#follower.start();
  }

  stop(): Promise<void> {
    return this.#follower.stop();
  }

  async #run(): Promise<bigint | null> {
    const { db, log, courier, membership, alarm } = this.#deps;
    if (performance.now() < this.#unwanted_until) return null;
    let seen = 0n;
    for (;;) {
      const out = await this.#pass();
      // Another server holds the place and tells when it is done.
      if (!out) return null;
      if (out.beyond && (await comeDown(db))) {
        log.warn(COUNTED_ANEW);
        continue;
      }
      this.#follow(out);
      if (!out.wanted) {
        this.#unwanted_until = performance.now() + UNWANTED_MS;
        return null;
      }
      courier.offer(out.fresh);
      if (out.fresh.some(({ shard }) => !membership.owns(shard))) alarm.ring(CHANNELS.webhooks);
      if (out.seen > seen) seen = out.seen;
      if (out.more) continue;
      // While much happens, a transaction for each moment would take what the payments need.
      if (out.fresh.length >= BUSY) await sleep(GATHER_MS);
      return seen;
    }
  }

  /** Fewer events at once where so many registrations want them that the time of a statement was not enough. */
  async #pass(): Promise<FanOut | null> {
    try {
      const out = await fanOut(this.#deps.db, timeText(this.#deps.clock.now()), this.#at_once);
      this.#at_once = Math.min(MOST_EVENTS, this.#at_once * 2);
      return out;
    } catch (error) {
      this.#at_once = Math.ceil(this.#at_once / 4);
      throw error;
    }
  }

  /** Notices what others did with the place since this server moved it. */
  #follow({ from, to }: FanOut): void {
    const before = this.#passed;
    this.#passed = to;
    if (before && isAfter(before, from)) this.#deps.startOver();
    // The first time, too: a pass whose answer was lost made deliveries of which nobody here knows.
    if (before?.horizon !== from.horizon || before.seq !== from.seq) this.#deps.courier.look();
  }
}
