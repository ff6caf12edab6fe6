import type pg from 'pg';
import type { Logger } from 'pino';
import type { Database } from './db.ts';

/** Tells every server on the database that something can be read, after the commit of what it is. */
export interface Alarm {
  /** Wakes the listeners here at once, and those of other servers a moment later. */
  ring(channel: string, detail?: bigint): void;
  /** `heard` runs for every ring, and when rings may have been missed. Answers how to stop it. */
  listen(channel: string, heard: (detail: bigint) => void): () => void;
  /** Whether rings of other servers come through now. */
  hears(): boolean;
  start(): Promise<void>;
  stop(): Promise<void>;
}

// NOTIFY takes a lock of the whole cluster at its commit: rings are gathered, so that it is taken rarely.
const GATHER_MS = 20;
const RECONNECT_MS = 1000;

/** An alarm over NOTIFY on a connection of its own, so that no transaction of a payment ever takes its lock. */
export function createAlarm({ db, log }: { db: Database; log: Logger }, channels: readonly string[]): Alarm {
  const listeners = new Map<string, Set<(detail: bigint) => void>>();
  const told = new Set<string>();
  const own = `${process.pid}.${Math.random().toString(36).slice(2)}`;
  let client: pg.Client | null = null;
  let gather: NodeJS.Timeout | null = null;
  let reconnect: NodeJS.Timeout | null = null;
  let stopped = false;

  const wake = (channel: string, detail: bigint): void => {
    for (const heard of listeners.get(channel) ?? []) heard(detail);
  };

  async function connect(): Promise<void> {
    if (stopped || client) return;
    try {
      const fresh = await db.connect();
      const lost = (): void => {
        if (client !== fresh) return;
        client = null;
        again();
      };
      fresh.on('error', lost);
      fresh.on('end', lost);
      fresh.on('notification', ({ channel, payload }) => {
        if (payload !== own) wake(channel, 0n);
      });
      for (const channel of channels) await fresh.query(`LISTEN ${channel}`);
      client = fresh;
      for (const channel of channels) wake(channel, 0n);
    } catch (error) {
      log.warn(
        { err: error },
        'not told by other servers: the database is asked for every key, and for events at intervals',
      );
      again();
    }
  }
  function again(): void {
    if (!stopped) reconnect = setTimeout(() => void connect(), RECONNECT_MS).unref();
  }

  function tell(): void {
    gather = null;
    for (const channel of told)
      void client?.query(`SELECT pg_notify($1, $2)`, [channel, own]).catch(() => {});
    told.clear();
  }

  return {
    ring(channel, detail = 0n) {
      wake(channel, detail);
      told.add(channel);
      gather ??= setTimeout(tell, GATHER_MS);
    },
    listen(channel, heard) {
      const all = listeners.get(channel) ?? new Set();
      listeners.set(channel, all.add(heard));
      return () => void all.delete(heard);
    },
    hears: () => client !== null,
    start: connect,
    async stop() {
      stopped = true;
      if (gather) clearTimeout(gather);
      if (reconnect) clearTimeout(reconnect);
      tell();
      await client?.end().catch(() => {});
    },
  };
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
