import { randomInt } from 'node:crypto';
import type pg from 'pg';
import type { Logger } from 'pino';
import { rowsParameter, type Database } from '../core/db.ts';
import { timeText, type Clock } from '../core/clock.ts';
import { refKey, refOf, type JobKind, type PaymentRef } from './types.ts';

// Which payments this process moves on (docs/decisions/0002). A payment has one job, made in the transaction of the step
// before it, so none is forgotten; that a job is taken is a hint and no lock: steps check the payment's state themselves.

export interface Job extends PaymentRef {
  kind: JobKind;
  node_id: string;
  attempts: number;
}

const LOCK_CLASS = 7_001_001;
// Most steps follow one another in memory: what waits for the poll waited for a time, or was somebody else's.
const POLL_MS = 500;
const TAKE_LIMIT = 500;
// A job of ours that nothing works on any more (the database was away when it should have been put back).
const FORGOTTEN_MS = 10_000;

const COLUMNS = 'j.organization_id, j.environment_id, j.payment_id AS id, j.kind, j.node_id, j.attempts';

// SKIP LOCKED: two servers that poll at once share what is due instead of waiting for each other.
const TAKE_DUE = `
  UPDATE jobs j SET worker = $1 FROM (
    SELECT organization_id, environment_id, payment_id FROM jobs
    WHERE worker IS NULL AND run_at <= $2 ORDER BY run_at LIMIT $3 FOR UPDATE SKIP LOCKED
  ) due
  WHERE j.organization_id = due.organization_id AND j.environment_id = due.environment_id
    AND j.payment_id = due.payment_id
  RETURNING ${COLUMNS}`;

const FORGOTTEN = `SELECT ${COLUMNS} FROM jobs j WHERE worker = $1 AND run_at < $2 ORDER BY run_at LIMIT $3`;

// Advisory locks end with their connection, however the process ended: no lease has to run out (threat 8).
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

/** The jobs of this process: taken rows carry its number, and an advisory lock says that it lives. */
export class JobBoard {
  readonly worker = randomInt(1, 2 ** 31 - 1);
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #active = new Map<string, number>();
  #client: pg.Client | null = null;
  #timer: NodeJS.Timeout | null = null;
  #polling: Promise<void> | null = null;
  #stopped = true;
  #handle: (jobs: Job[]) => void = () => {};

  constructor({ db, clock, log }: { db: Database; clock: Clock; log: Logger }) {
    this.#db = db;
    this.#clock = clock;
    this.#log = log;
  }

  /** Begins to take jobs: due ones, and those of processes that died. */
  async start(handle: (jobs: Job[]) => void): Promise<void> {
    this.#handle = handle;
    this.#stopped = false;
    await this.#poll();
    this.#timer = setInterval(() => void this.#poll(), POLL_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer) clearInterval(this.#timer);
    await this.#polling;
    // What this process did not finish is free for others at once.
    await this.#db.query('UPDATE jobs SET worker = NULL WHERE worker = $1', [this.worker]).catch(() => {});
    await this.#client?.query('NOTIFY coulomb_jobs').catch(() => {});
    await this.#client?.end().catch(() => {});
  }

  /**
   * Puts jobs back for whoever takes them first after a pause. Only those that are this process's still: what was
   * settled, or taken by others meanwhile, stays as it is.
   */
  async putBack(refs: readonly PaymentRef[], pause_ms: number): Promise<void> {
    if (refs.length === 0) return;
    try {
      await this.#db.query(
        `UPDATE jobs j SET worker = NULL, run_at = $2, attempts = attempts + 1
         FROM json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, id uuid)
         WHERE j.organization_id = r.organization_id AND j.environment_id = r.environment_id
           AND j.payment_id = r.id AND j.worker = $3`,
        [rowsParameter(refs.map(refOf)), timeText(this.#clock.now() + pause_ms), this.worker],
        'put jobs back',
      );
    } catch (error) {
      this.#log.warn({ err: error }, 'jobs not put back, found again by their age');
    }
  }

  /** Marks payments as being worked on in this process; counted, since one may be handed on and taken at the same time. */
  busy(refs: readonly PaymentRef[]): void {
    for (const key of refs.map(refKey)) this.#active.set(key, (this.#active.get(key) ?? 0) + 1);
  }

  /** The process is done with them; a job still carrying its number will be handled again. */
  done(refs: readonly PaymentRef[]): void {
    for (const key of refs.map(refKey)) {
      const count = this.#active.get(key) ?? 0;
      if (count <= 1) this.#active.delete(key);
      else this.#active.set(key, count - 1);
    }
  }

  #poll(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    this.#polling ??= this.#take()
      .catch((error: unknown) => this.#log.warn({ err: error }, 'jobs not read, will be tried again'))
      .finally(() => (this.#polling = null));
    return this.#polling;
  }

  async #take(): Promise<void> {
    await this.#stayAlive();
    const now_ms = this.#clock.now();
    const take = (text: string, values: unknown[], name: string) => this.#db.query<Job>(text, values, name);
    this.#claim(await take(TAKE_FROM_DEAD, [this.worker, TAKE_LIMIT], 'take jobs of the dead'));
    const due = await take(TAKE_DUE, [this.worker, timeText(now_ms), TAKE_LIMIT], 'take due jobs');
    this.#claim(due);
    const long_ago = timeText(now_ms - FORGOTTEN_MS);
    this.#claim(await take(FORGOTTEN, [this.worker, long_ago, TAKE_LIMIT], 'forgotten jobs'));
    if (due.length === TAKE_LIMIT && !this.#stopped) setImmediate(() => void this.#poll());
  }

  /** The connection that carries the lock; without it other processes would take our jobs. */
  async #stayAlive(): Promise<void> {
    if (this.#client) return;
    const fresh = await this.#db.connect((lost) => {
      if (this.#client === lost) this.#client = null;
    });
    fresh.on('notification', () => void this.#poll());
    await fresh.query('SELECT pg_advisory_lock($1, $2)', [LOCK_CLASS, this.worker]);
    await fresh.query('LISTEN coulomb_jobs');
    this.#client = fresh;
  }

  #claim(jobs: Job[]): void {
    const fresh = jobs.filter((job) => !this.#active.has(refKey(job)));
    if (fresh.length === 0) return;
    this.busy(fresh);
    this.#handle(fresh);
  }
}
