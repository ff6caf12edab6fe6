import type { Logger } from 'pino';
import { createFollower, type Alarm, type Follower } from '../core/alarm.ts';
import { timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { isAfter, type EventPlace } from '../core/events.ts';
import { CHANNELS } from './channels.ts';
import type { Courier } from './courier.ts';
import { fanOut, MOST_EVENTS, type FanOut } from './fanout.ts';
import type { Membership } from './membership.ts';
import { comeDown, COUNTED_ANEW } from './restore.ts';

export interface FanDeps {
  db: Database;
  clock: Clock;
  log: Logger;
  alarm: Alarm;
  courier: Courier;
  membership: Membership;
  /** The order of events was counted anew. */
  startOver(): void;
}

/** From so many deliveries at once on, those that follow are gathered for a moment. */
const BUSY = 24;
const GATHER_MS = 20;
/** While nobody has a webhook, its place in the events is moved on this often. */
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
    if (performance.now() < this.#unwanted_until) return null;
    let seen = 0n;
    for (;;) {
      const out = await this.#pass();
      // Another server holds the place and tells when it is done.
      if (!out) return null;
      if (out.beyond && (await comeDown(this.#deps.db))) {
        this.#deps.log.warn(COUNTED_ANEW);
        continue;
      }
      this.#follow(out);
      if (!out.wanted) {
        this.#unwanted_until = performance.now() + UNWANTED_MS;
        return null;
      }
      this.#hand(out);
      if (out.seen > seen) seen = out.seen;
      if (out.more) continue;
      // While much happens, a transaction for each moment would take what the payments need.
      if (out.fresh.length >= BUSY) await new Promise((done) => setTimeout(done, GATHER_MS));
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
    if (!before) return;
    if (isAfter(before, from)) this.#deps.startOver();
    if (before.horizon !== from.horizon || before.seq !== from.seq) this.#deps.courier.look();
  }

  #hand({ fresh }: FanOut): void {
    const { courier, membership, alarm } = this.#deps;
    courier.offer(fresh);
    if (fresh.some(({ shard }) => !membership.owns(shard))) alarm.ring(CHANNELS.webhooks);
  }
}
