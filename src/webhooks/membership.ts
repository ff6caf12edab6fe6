import { createHash, randomInt } from 'node:crypto';
import type pg from 'pg';
import type { Logger } from 'pino';
import type { Database } from '../core/db.ts';
import { SHARDS } from './deliveries.ts';

/** Which shards this process sends: each is sent by one server, and servers agree without talking. */
export interface Membership {
  owns(shard: number): boolean;
  shards(): number[];
  /** `changed` runs when shards came or went. */
  start(changed: () => void): Promise<void>;
  stop(): Promise<void>;
}

const LOCK_CLASS = 7_001_003;
const LOOK_MS = 1000;
// A server that has just come waits until the others have seen it, so that they do not both send.
const SETTLE_MS = 2500;

const weight = (server: number, shard: number): number =>
  createHash('sha256').update(`${server}/${shard}`).digest().readUInt32BE(0);

/** The server with the highest weight for a shard: one that comes or goes moves only its own share. */
export function ownerOf(shard: number, servers: readonly number[]): number | undefined {
  return [...servers].sort((a, b) => weight(b, shard) - weight(a, shard) || b - a)[0];
}

/** Joins the servers that send; an advisory lock on a connection of its own says that this one lives. */
export function createMembership({ db, log }: { db: Database; log: Logger }): Membership {
  const number = randomInt(1, 2 ** 31 - 1);
  let client: pg.Client | null = null;
  let timer: NodeJS.Timeout | null = null;
  let looking: Promise<void> | null = null;
  let own = new Set<number>();
  /** Since when this process would own a shard, by a clock that only goes forward. */
  const since = new Map<number, number>();
  let onChange = (): void => {};

  async function join(): Promise<void> {
    if (client) return;
    const fresh = await db.connect();
    const lost = (): void => {
      if (client === fresh) client = null;
    };
    fresh.on('error', lost);
    fresh.on('end', lost);
    await fresh.query('SELECT pg_advisory_lock($1, $2)', [LOCK_CLASS, number]);
    client = fresh;
  }

  async function look(): Promise<void> {
    await join();
    const rows = await db.query<{ server: bigint }>(
      `SELECT objid::bigint AS server FROM pg_locks
       WHERE locktype = 'advisory' AND classid = ${LOCK_CLASS} AND objsubid = 2 AND granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [],
      'servers that send',
    );
    const servers = rows.map(({ server }) => Number(server));
    // Held by a connection that looks alive here: after a failover, or behind a network that dropped it.
    if (!servers.includes(number)) {
      log.warn('the lock of this server is gone, it joins again');
      const gone = client;
      client = null;
      own = new Set();
      since.clear();
      onChange();
      // Not waited for: nobody may be there to answer.
      void gone?.end().catch(() => {});
      return;
    }
    const alone = servers.length === 1 && servers[0] === number;
    const now_ms = performance.now();
    const fresh = new Set<number>();
    for (let shard = 0; shard < SHARDS; shard += 1) {
      if (ownerOf(shard, servers) !== number) {
        since.delete(shard);
        continue;
      }
      const from = since.get(shard) ?? now_ms;
      since.set(shard, from);
      if (alone || own.has(shard) || now_ms - from >= SETTLE_MS) fresh.add(shard);
    }
    const same = fresh.size === own.size && [...fresh].every((shard) => own.has(shard));
    own = fresh;
    if (!same) onChange();
  }

  const tick = (): Promise<void> =>
    (looking ??= look()
      .catch((error: unknown) => log.warn({ err: error }, 'other servers not seen, will be tried again'))
      .finally(() => (looking = null)));

  return {
    owns: (shard) => own.has(shard),
    shards: () => [...own],
    async start(changed) {
      onChange = changed;
      await tick();
      timer = setInterval(() => void tick(), LOOK_MS);
    },
    async stop() {
      if (timer) clearInterval(timer);
      await looking;
      own = new Set();
      await client?.end().catch(() => {});
    },
  };
}
