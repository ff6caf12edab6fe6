import type pg from 'pg';
import type { Logger } from 'pino';
import type { Database } from './db.ts';

// NOTIFY takes a lock of the whole cluster at its commit: rings are gathered, so that it is taken rarely.
const GATHER_MS = 20;
const RECONNECT_MS = 1000;

/**
 * Tells every server on the database that something can be read, after the commit of what it is: by NOTIFY on a
 * connection of its own, so that no transaction of a payment ever takes its lock.
 */
export class Alarm {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #channels: readonly string[];
  readonly #listeners = new Map<string, Set<(detail: bigint) => void>>();
  readonly #told = new Set<string>();
  readonly #own = `${process.pid}.${Math.random().toString(36).slice(2)}`;
  #client: pg.Client | null = null;
  #gather: NodeJS.Timeout | null = null;
  #reconnect: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor({ db, log }: { db: Database; log: Logger }, channels: readonly string[]) {
    this.#db = db;
    this.#log = log;
    this.#channels = channels;
  }

  /** Wakes the listeners here at once, and those of other servers a moment later. */
  ring(channel: string, detail = 0n): void {
    this.#wake(channel, detail);
    this.#told.add(channel);
    this.#gather ??= setTimeout(() => this.#tell(), GATHER_MS);
  }

  /** `heard` runs for every ring, and when rings may have been missed. Answers how to stop it. */
  listen(channel: string, heard: (detail: bigint) => void): () => void {
    const all = this.#listeners.get(channel) ?? new Set();
    this.#listeners.set(channel, all.add(heard));
    return () => void all.delete(heard);
  }

  /** Whether rings of other servers come through now. */
  hears(): boolean {
    return this.#client !== null;
  }

  async start(): Promise<void> {
    if (this.#stopped || this.#client) return;
    try {
      this.#client = await this.#connect();
      for (const channel of this.#channels) this.#wake(channel, 0n);
    } catch (error) {
      this.#log.warn(
        { err: error },
        'not told by other servers: the database is asked for every key, and for events at intervals',
      );
      this.#again();
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#gather) clearTimeout(this.#gather);
    if (this.#reconnect) clearTimeout(this.#reconnect);
    this.#tell();
    await this.#client?.end().catch(() => {});
  }

  async #connect(): Promise<pg.Client> {
    const fresh = await this.#db.connect((lost) => {
      if (this.#client !== lost) return;
      this.#client = null;
      this.#again();
    });
    fresh.on('notification', ({ channel, payload }) => {
      if (payload !== this.#own) this.#wake(channel, 0n);
    });
    for (const channel of this.#channels) await fresh.query(`LISTEN ${channel}`);
    return fresh;
  }

  #again(): void {
    if (!this.#stopped) this.#reconnect = setTimeout(() => void this.start(), RECONNECT_MS).unref();
  }

  #wake(channel: string, detail: bigint): void {
    for (const heard of this.#listeners.get(channel) ?? []) heard(detail);
  }

  #tell(): void {
    this.#gather = null;
    for (const channel of this.#told) {
      void this.#client?.query(`SELECT pg_notify($1, $2)`, [channel, this.#own]).catch(() => {});
    }
    this.#told.clear();
  }
}

/** Somebody who reads on from a place whenever there may be more. */
export interface Follower {
  /** Something was written, up to this number. */
  wake(wanted: bigint): void;
  start(): void;
  stop(): Promise<void>;
}

const IDLE_MS = 250;
// What was committed may be hidden behind an older transaction for a moment: looked at again soon, then less often.
const HIDDEN_MS = [2, 4, 8, 16, 32, 64];

/**
 * Runs `read` when woken, one at a time, and at intervals. It answers the highest number that it has seen, or null for
 * one that waits for nothing; while that is below what was written, it is run again soon.
 */
export function createFollower(log: Logger, what: string, read: () => Promise<bigint | null>): Follower {
  let wanted = 0n;
  let seen = 0n;
  let hidden = 0;
  let woken = false;
  let stopped = true;
  let timer: NodeJS.Timeout | null = null;
  let running: Promise<void> | null = null;

  async function once(): Promise<void> {
    woken = false;
    try {
      const highest = await read();
      if (highest === null) wanted = seen;
      else if (highest > seen) seen = highest;
    } catch (error) {
      if (!stopped) log.warn({ err: error }, `${what}, will be tried again`);
      wanted = seen;
    }
  }

  function run(): void {
    if (stopped || running) return;
    if (timer) clearTimeout(timer);
    timer = null;
    running = once().finally(() => {
      running = null;
      if (stopped) return;
      if (woken) return run();
      hidden = seen < wanted ? hidden + 1 : 0;
      timer = setTimeout(run, hidden > 0 ? (HIDDEN_MS[hidden - 1] ?? IDLE_MS) : IDLE_MS);
    });
  }

  return {
    wake(detail) {
      if (detail > wanted) wanted = detail;
      woken = true;
      run();
    },
    start() {
      stopped = false;
      run();
    },
    async stop() {
      stopped = true;
      if (timer) clearTimeout(timer);
      await running;
    },
  };
}
