import type { ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { createFollower, type Follower } from '../core/alarm.ts';
import type { Database } from '../core/db.ts';
import { isAfter, readEvents, type EventPlace, type StoredEvent } from '../core/events.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import type { Bodies } from './body.ts';
import { placeId, placeNow } from './place.ts';

/** What a client wants to hear; absent is anything. */
export interface EventFilter {
  wallet_id?: string | undefined;
  payment_id?: string | undefined;
  /** `receive`, or `receive.completed`. */
  types?: readonly string[] | undefined;
}

export const passes = (filter: EventFilter, event: StoredEvent): boolean =>
  (filter.wallet_id === undefined || filter.wallet_id === event.wallet_id) &&
  (filter.payment_id === undefined || filter.payment_id === event.payment_id) &&
  (filter.types === undefined ||
    filter.types.includes(event.type) ||
    filter.types.includes(`${event.type}.${event.event}`));

/** What was told lately: a stream that has come this far goes on from here. */
interface Tail {
  epoch: number;
  from: EventPlace;
  to: EventPlace;
  recent: StoredEvent[];
}

/** One open stream. `after` moves with what was written to it. */
interface Stream {
  scope: EnvironmentRef;
  key_id: string;
  filter: EventFilter;
  socket: ServerResponse;
  after: EventPlace;
  /** That of its places: where events are counted anew, it ends. */
  readonly epoch: number;
  /** Told by the tail; otherwise it reads from the database itself, until it has caught up. */
  live: boolean;
}

const PAGE = 200;
const TAIL = 500;
const MAX_RECENT = 500;
/** What a client may leave unread in memory here. */
const MAX_UNREAD_BYTES = 1_048_576;
/** How long a client may leave it unread before it is closed; it resumes where it stopped. */
const DRAIN_MS = 10_000;
const HEARTBEAT_MS = 15_000;
/** A place without an event: a client resumes from there, and hears nothing of it. */
const heartbeat = ({ after, epoch }: Stream): string => `: still here\nid: ${placeId(after, epoch)}\n\n`;
/** Streams that read from the database at once; others wait for their turn. */
const READING = 8;

const scopeKey = ({ organization_id, environment_id }: EnvironmentRef): string =>
  `${organization_id}/${environment_id}`;

export interface HubDeps {
  db: Database;
  log: Logger;
  bodies: Bodies;
  /** Of these API keys, those that may read no more. */
  withdrawn(key_ids: readonly string[]): Promise<Set<string>>;
}

/** Tells the open streams what was committed. */
export class Hub {
  readonly #deps: HubDeps;
  readonly #streams = new Map<string, Set<Stream>>();
  readonly #reading = createTurns(READING);
  readonly #follower: Follower;
  #tail: Tail | null = null;
  #heart: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(deps: HubDeps) {
    this.#deps = deps;
    this.#follower = createFollower(deps.log, 'events not read', () => this.#follow());
  }

  /** Serves a stream from a place on. */
  open(given: Omit<Stream, 'live'>): void {
    if (given.socket.destroyed) return;
    if (this.#stopped) {
      given.socket.destroy();
      return;
    }
    const stream: Stream = { ...given, live: false };
    const key = scopeKey(given.scope);
    this.#streams.set(key, (this.#streams.get(key) ?? new Set()).add(stream));
    const close = (): void => this.#close(stream);
    given.socket.on('close', close).on('error', close);
    given.socket.write(heartbeat(stream));
    this.#follower.wake(0n);
    this.#startCatchUp(stream);
  }

  /** Streams that are open, in all or of one environment. */
  count(scope?: EnvironmentRef): number {
    return scope ? (this.#streams.get(scopeKey(scope))?.size ?? 0) : this.#all().length;
  }

  /** Something was committed, up to this event. */
  wake(last: bigint): void {
    this.#follower.wake(last);
  }

  /** Events were counted anew: streams end, and their clients are told so when they resume. */
  startOver(): void {
    this.#closeAll();
    this.#tail = null;
  }

  start(): void {
    this.#follower.start();
    this.#heart = setInterval(() => {
      void this.#beat().catch((error: unknown) =>
        this.#deps.log.warn({ err: error }, 'keys of event streams not checked'),
      );
    }, HEARTBEAT_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#heart) clearInterval(this.#heart);
    this.#closeAll();
    await this.#follower.stop();
  }

  #all(): Stream[] {
    return [...this.#streams.values()].flatMap((set) => [...set]);
  }

  #closeAll(): void {
    for (const stream of this.#all()) this.#close(stream);
  }

  #close(stream: Stream): void {
    const key = scopeKey(stream.scope);
    const set = this.#streams.get(key);
    if (!set?.delete(stream)) return;
    if (set.size === 0) this.#streams.delete(key);
    stream.socket.destroy();
  }

  /** Tells the live streams what is new; nothing is read while there are none. */
  async #follow(): Promise<bigint | null> {
    if (this.#streams.size === 0) {
      this.#tail = null;
      return null;
    }
    if (!this.#tail) {
      const place = await placeNow(this.#deps.db);
      this.#tail = { epoch: place.epoch, from: place, to: place, recent: [] };
    }
    const mine = this.#tail;
    let seen = 0n;
    for (;;) {
      const page = await readEvents(this.#deps.db, mine.to, null, TAIL);
      if (this.#tail !== mine) return null;
      if (page.epoch !== mine.epoch) {
        this.startOver();
        return null;
      }
      // Told further, they would skip what is gone: their clients come back, and are refused.
      if (page.removed) this.#closeAll();
      for (const event of page.events) {
        if (event.seq > seen) seen = event.seq;
        this.#tellLive(event, page.epoch);
      }
      // In this same turn of the event loop, so that no stream joins in between.
      mine.recent.push(...page.events);
      mine.to = page.next;
      const past = mine.recent.splice(0, Math.max(0, mine.recent.length - MAX_RECENT));
      mine.from = past.at(-1) ?? mine.from;
      if (!page.has_more) return seen;
    }
  }

  #tellLive(event: StoredEvent, epoch: number): void {
    const set = this.#streams.get(scopeKey(event));
    if (!set) return;
    let frame: Buffer | null = null;
    for (const stream of set) {
      try {
        this.#tell(stream, event, () => (frame ??= Buffer.from(this.#frameOf(event, epoch))));
      } catch (error) {
        // Told further, it would skip this one.
        this.#deps.log.error(
          { err: error, key_id: stream.key_id, seq: event.seq },
          'event not shown to a stream',
        );
        this.#close(stream);
      }
    }
  }

  #tell(stream: Stream, event: StoredEvent, frame: () => string | Buffer): void {
    if (!stream.live || !isAfter(event, stream.after)) return;
    stream.after = { horizon: event.horizon, seq: event.seq };
    if (!passes(stream.filter, event)) return;
    stream.socket.write(frame());
    // Not read so far: from here on at the client's own pace.
    if (stream.socket.writableLength > MAX_UNREAD_BYTES) this.#startCatchUp(stream);
  }

  #frameOf(event: StoredEvent, epoch: number): string {
    return `id: ${placeId(event, epoch)}\nevent: ${event.type}.${event.event}\ndata: ${this.#deps.bodies.ofEvent(event)}\n\n`;
  }

  #startCatchUp(stream: Stream): void {
    stream.live = false;
    this.#catchUp(stream).catch((error: unknown) => {
      this.#deps.log.warn({ err: error }, 'event stream not read, its client resumes');
      this.#close(stream);
    });
  }

  /** Writes from the database, as fast as the client reads, up to where the tail is; then the tail goes on with it. */
  async #catchUp(stream: Stream): Promise<void> {
    while (!stream.socket.destroyed) {
      const page = await this.#reading(() => readEvents(this.#deps.db, stream.after, stream.scope, PAGE));
      if (page.removed || page.epoch !== stream.epoch) {
        return this.#closeAs(stream, 'its next events were removed');
      }
      for (const event of page.events) {
        if (passes(stream.filter, event)) stream.socket.write(this.#frameOf(event, stream.epoch));
        stream.after = { horizon: event.horizon, seq: event.seq };
        if (!(await this.#drained(stream))) return;
      }
      stream.after = page.next;
      if (page.has_more) continue;
      if (this.#joinsTail(stream)) return;
      await pause(CATCH_UP_PAUSE_MS);
    }
  }

  #joinsTail(stream: Stream): boolean {
    if (this.#tail?.epoch !== stream.epoch || isAfter(this.#tail.from, stream.after)) return false;
    stream.live = true;
    for (const event of this.#tail.recent) {
      if (scopeKey(event) === scopeKey(stream.scope))
        this.#tell(stream, event, () => this.#frameOf(event, stream.epoch));
    }
    return true;
  }

  #closeAs(stream: Stream, why: string): void {
    this.#deps.log.info({ key_id: stream.key_id, ...stream.scope }, `event stream closed: ${why}`);
    this.#close(stream);
  }

  /** Waits until the client has read; one that does not is closed, and false. */
  async #drained(stream: Stream): Promise<boolean> {
    const { socket } = stream;
    if (!socket.writableNeedDrain) return !socket.destroyed;
    await new Promise<void>((done) => {
      const timer = setTimeout(() => this.#closeAs(stream, 'its client does not read'), DRAIN_MS);
      const go = (): void => {
        clearTimeout(timer);
        socket.off('drain', go).off('close', go);
        done();
      };
      socket.on('drain', go).on('close', go);
    });
    return !socket.destroyed;
  }

  async #beat(): Promise<void> {
    const open = this.#all();
    for (const stream of open) {
      // Told by the tail, it has heard all that the tail has read, however little of that passed its filter.
      if (stream.live && this.#tail && isAfter(this.#tail.to, stream.after)) stream.after = this.#tail.to;
      if (!stream.socket.writableNeedDrain) stream.socket.write(heartbeat(stream));
    }
    const gone = await this.#deps.withdrawn([...new Set(open.map(({ key_id }) => key_id))]);
    for (const stream of open) if (gone.has(stream.key_id)) this.#close(stream);
  }
}

/** Lets so many run at once; the others wait in line. */
function createTurns(at_once: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    // Whoever ends hands its turn on; only where nobody waits is it free.
    if (running >= at_once) await new Promise<void>((turn) => waiting.push(turn));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}

const CATCH_UP_PAUSE_MS = 20;
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));
