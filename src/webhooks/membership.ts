import { createHash, randomInt } from 'node:crypto';
import type pg from 'pg';
import type { Logger } from 'pino';
import type { Database } from '../core/db.ts';
import { SHARDS } from './deliveries.ts';

// Who sends what, decided by each server for itself (docs/decisions/0022). Two that both take a shard for theirs send
// twice, with the same delivery ids; a shard that nobody takes waits a second. Neither loses anything.

/** Of the advisory locks; payments' processes have another one. */
const LOCK_CLASS = 7_001_003;
const LOOK_MS = 1000;
// A server that has just come waits until the others have seen it, so that they do not both send: more than two looks.
const SETTLE_MS = 2500;

const weight = (server: number, shard: number): number =>
  createHash('sha256').update(`${server}/${shard}`).digest().readUInt32BE(0);

/** The server with the highest weight for a shard: one that comes or goes moves only its own share. */
export function ownerOf(shard: number, servers: readonly number[]): number | undefined {
  return [...servers].sort((a, b) => weight(b, shard) - weight(a, shard) || b - a)[0];
}

/**
 * Which shards this process sends: each is sent by one server, and servers agree without talking. An advisory lock on
 * a connection of its own says that this one lives.
 */
export class Membership {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #number = randomInt(1, 2 ** 31 - 1);
  /** Since when this process would own a shard, by a clock that only goes forward. */
  readonly #since = new Map<number, number>();
  #own: ReadonlySet<number> = new Set();
  #client: pg.Client | null = null;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #onChange = (): void => {};

  constructor({ db, log }: { db: Database; log: Logger }) {
    this.#db = db;
    this.#log = log;
  }

  owns(shard: number): boolean {
    return this.#own.has(shard);
  }

  shards(): number[] {
    return [...this.#own];
  }

  /** `changed` runs when shards came or went. */
  async start(changed: () => void): Promise<void> {
    this.#onChange = changed;
    await this.#tick();
    this.#timer = setInterval(() => void this.#tick(), LOOK_MS);
  }

  async stop(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await this.#looking;
    this.#own = new Set();
    await this.#client?.end().catch(() => {});
  }

  #tick(): Promise<void> {
    return (this.#looking ??= this.#look()
      .catch((error: unknown) =>
        this.#log.warn({ err: error }, 'other servers not seen, will be tried again'),
      )
      .finally(() => (this.#looking = null)));
  }

  async #look(): Promise<void> {
    await this.#join();
    const rows = await this.#db.query<{ server: bigint }>(
      `SELECT objid::bigint AS server FROM pg_locks
       WHERE locktype = 'advisory' AND classid = ${LOCK_CLASS} AND objsubid = 2 AND granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [],
      'servers that send',
    );
    const servers = rows.map(({ server }) => Number(server));
    if (!servers.includes(this.#number)) return this.#leave();
    const own = this.#shareOf(servers);
    const same = own.size === this.#own.size && [...own].every((shard) => this.#own.has(shard));
    this.#own = own;
    if (!same) this.#onChange();
  }

  async #join(): Promise<void> {
    if (this.#client) return;
    const fresh = await this.#db.connect((lost) => {
      if (this.#client === lost) this.#client = null;
    });
    await fresh.query('SELECT pg_advisory_lock($1, $2)', [LOCK_CLASS, this.#number]);
    this.#client = fresh;
  }

  /** The lock was held by a connection that looks alive here: after a failover, or behind a network that dropped it. */
  #leave(): void {
    this.#log.warn('the lock of this server is gone, it joins again');
    const gone = this.#client;
    this.#client = null;
    this.#own = new Set();
    this.#since.clear();
    this.#onChange();
    // Not waited for: nobody may be there to answer.
    void gone?.end().catch(() => {});
  }

  /** What it sends from now on: its shards, new ones once the others know, at once where there are no others. */
  #shareOf(servers: readonly number[]): Set<number> {
    const now_ms = performance.now();
    const own = new Set<number>();
    for (let shard = 0; shard < SHARDS; shard += 1) {
      if (ownerOf(shard, servers) !== this.#number) {
        this.#since.delete(shard);
        continue;
      }
      const from = this.#since.get(shard) ?? now_ms;
      this.#since.set(shard, from);
      if (servers.length === 1 || this.#own.has(shard) || now_ms - from >= SETTLE_MS) own.add(shard);
    }
    return own;
  }
}
