import { randomInt } from 'node:crypto';
import type pg from 'pg';
import type { Logger } from 'pino';
import { rowsParameter, type Database } from '../core/db.ts';
import { timeText, type Clock } from '../core/clock.ts';
import type { JobKind, PaymentRef } from './types.ts';
import { refKey } from './types.ts';

export interface Job extends PaymentRef {
  kind: JobKind;
  node_id: string;
  attempts: number;
}

/** The jobs of this process: taken rows carry its number, and an advisory lock says that it lives. */
export interface JobBoard {
  readonly worker: number;
  start(handle: (jobs: Job[]) => void): Promise<void>;
  stop(): Promise<void>;
  /** Puts jobs back for whoever takes them first from `run_at` on. */
  putBack(refs: readonly PaymentRef[], run_at: string): Promise<void>;
  /** Marks payments as being worked on in this process. */
  busy(keys: readonly string[]): void;
  /** The process is done with them; a job still carrying its number will be handled again. */
  done(keys: readonly string[]): void;
}

const LOCK_CLASS = 7_001_001;
const POLL_MS = 500;
const TAKE_LIMIT = 500;
// A job of ours that nothing works on any more (the database was away when it should have been put back).
const FORGOTTEN_MS = 10_000;

const COLUMNS = 'j.organization_id, j.environment_id, j.payment_id AS id, j.kind, j.node_id, j.attempts';

const TAKE_DUE = `
  UPDATE jobs j SET worker = $1 FROM (
    SELECT organization_id, environment_id, payment_id FROM jobs
    WHERE worker IS NULL AND run_at <= $2 ORDER BY run_at LIMIT $3 FOR UPDATE SKIP LOCKED
  ) due
  WHERE j.organization_id = due.organization_id AND j.environment_id = due.environment_id
    AND j.payment_id = due.payment_id
  RETURNING ${COLUMNS}`;

const TAKE_FROM_DEAD = `
  UPDATE jobs j SET worker = $1 FROM (
    SELECT organization_id, environment_id, payment_id FROM jobs
    WHERE worker IS NOT NULL AND worker <> $1 AND worker NOT IN (
      SELECT objid::bigint FROM pg_locks
      WHERE locktype = 'advisory' AND classid = ${LOCK_CLASS} AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    LIMIT $2 FOR UPDATE SKIP LOCKED
  ) dead
  WHERE j.organization_id = dead.organization_id AND j.environment_id = dead.environment_id
    AND j.payment_id = dead.payment_id
  RETURNING ${COLUMNS}`;

/** Makes the board. `start` begins to take jobs: due ones, and those of processes that died. */
export function createJobBoard({ db, clock, log }: { db: Database; clock: Clock; log: Logger }): JobBoard {
  const worker = randomInt(1, 2 ** 31 - 1);
  const active = new Map<string, number>();
  let client: pg.Client | null = null;
  let timer: NodeJS.Timeout | null = null;
  let polling: Promise<void> | null = null;
  let stopped = true;
  let handle: (jobs: Job[]) => void = () => {};

  /** The connection that carries the lock; without it other processes would take our jobs. */
  async function stayAlive(): Promise<void> {
    if (client) return;
    const fresh = await db.connect();
    const lost = (): void => {
      if (client === fresh) client = null;
    };
    fresh.on('error', lost);
    fresh.on('end', lost);
    fresh.on('notification', () => void poll());
    await fresh.query('SELECT pg_advisory_lock($1, $2)', [LOCK_CLASS, worker]);
    await fresh.query('LISTEN coulomb_jobs');
    client = fresh;
  }

  const claim = (jobs: Job[]): void => {
    const fresh = jobs.filter((job) => !active.has(refKey(job)));
    if (fresh.length === 0) return;
    board.busy(fresh.map(refKey));
    handle(fresh);
  };

  async function take(): Promise<void> {
    await stayAlive();
    const now_ms = clock.now();
    claim(await db.query<Job>(TAKE_FROM_DEAD, [worker, TAKE_LIMIT], 'take jobs of the dead'));
    const due = await db.query<Job>(TAKE_DUE, [worker, timeText(now_ms), TAKE_LIMIT], 'take due jobs');
    claim(due);
    claim(
      await db.query<Job>(
        `SELECT ${COLUMNS} FROM jobs j WHERE worker = $1 AND run_at < $2 ORDER BY run_at LIMIT $3`,
        [worker, timeText(now_ms - FORGOTTEN_MS), TAKE_LIMIT],
        'forgotten jobs',
      ),
    );
    if (due.length === TAKE_LIMIT && !stopped) setImmediate(() => void poll());
  }

  function poll(): Promise<void> {
    if (stopped) return Promise.resolve();
    polling ??= take()
      .catch((error: unknown) => log.warn({ err: error }, 'jobs not read, will be tried again'))
      .finally(() => (polling = null));
    return polling;
  }

  const board: JobBoard = {
    worker,
    async start(handler) {
      handle = handler;
      stopped = false;
      await poll();
      timer = setInterval(() => void poll(), POLL_MS);
    },
    async stop() {
      stopped = true;
      if (timer) clearInterval(timer);
      await polling;
      // What this process did not finish is free for others at once.
      await db.query('UPDATE jobs SET worker = NULL WHERE worker = $1', [worker]).catch(() => {});
      await client?.query('NOTIFY coulomb_jobs').catch(() => {});
      await client?.end().catch(() => {});
    },
    async putBack(refs, run_at) {
      if (refs.length === 0) return;
      await db
        .query(
          `UPDATE jobs j SET worker = NULL, run_at = $2, attempts = attempts + 1
           FROM json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, id uuid)
           WHERE j.organization_id = r.organization_id AND j.environment_id = r.environment_id
             AND j.payment_id = r.id AND j.worker = $3`,
          [rowsParameter(refs), run_at, worker],
          'put jobs back',
        )
        .catch((error: unknown) => log.warn({ err: error }, 'jobs not put back, found again by their age'));
    },
    busy: (keys) => {
      for (const key of keys) active.set(key, (active.get(key) ?? 0) + 1);
    },
    done: (keys) => {
      for (const key of keys) {
        const count = active.get(key) ?? 0;
        if (count <= 1) active.delete(key);
        else active.set(key, count - 1);
      }
    },
  };
  return board;
}
