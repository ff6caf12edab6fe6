import type { Writable } from 'node:stream';
import pg from 'pg';

// int8 is money or a sequence here: exact, so never a float. Timestamps stay text, formatted by SQL.
const INT8 = 20;
const TIMESTAMPTZ = 1184;
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => {
    if (oid === INT8) return (text: string) => BigInt(text);
    if (oid === TIMESTAMPTZ) return wireTime;
    return pg.types.getTypeParser(oid, format);
  }) as pg.CustomTypesConfig['getTypeParser'],
};

/** PostgreSQL's `2026-01-02 03:04:05.678+00` as RFC 3339 with six digits and `Z` (sessions run in UTC). */
export function wireTime(text: string): string {
  const [day = '', rest = ''] = text.split(' ');
  const time = rest.replace(/\+00(:?00)?$/, '');
  const [seconds = '', fraction = ''] = time.split('.');
  return `${day}T${seconds}.${fraction.padEnd(6, '0')}Z`;
}

/** A row as the driver gives it: int8 as bigint, timestamps as text of the wire. */
export type Row = Record<string, unknown>;

/** Something that runs SQL: the pool, or a client inside a transaction. */
export interface Sql {
  /** Runs one statement. With a `name` it is prepared once per connection. */
  query<R = Row>(text: string, values?: unknown[], name?: string): Promise<R[]>;
}

/** What runs SQL inside a transaction. */
export interface Transaction extends Sql {
  /**
   * The last statements, all issued by `write` before it awaits anything: the commit goes out right behind them, so
   * that locks are held for a round trip less. A statement that fails makes that commit a rollback. One that is issued
   * after it is a fault of the code, and told as such: none may depend on what another one answers.
   */
  finish<T>(write: (sql: Sql) => Promise<T>): Promise<T>;
}

/** The pool of one process. */
export interface Database extends Sql {
  /** Runs `work` in one READ COMMITTED transaction on one connection; rolls back when it throws. */
  transaction<T>(work: (sql: Transaction) => Promise<T>): Promise<T>;
  /** A connection of its own, outside the pool, for LISTEN and advisory locks. The caller ends it; `lost` hears when it is gone. */
  connect(lost?: (client: pg.Client) => void): Promise<pg.Client>;
  stats(): { total: number; idle: number; waiting: number };
  close(): Promise<void>;
}

/** Where the database is, and what bounds each connection to it. */
export interface DatabaseOptions {
  url: string;
  max_connections: number;
  statement_timeout_ms: number;
  /** Ends a transaction that sits idle: with the statement timeout it bounds how long one can stay open. */
  idle_in_transaction_timeout_ms: number;
  connect_timeout_ms: number;
}

const run = async <R>(client: pg.ClientBase | pg.Pool, text: string, values?: unknown[], name?: string) => {
  const result = await client.query({
    text,
    types,
    ...(values ? { values } : {}),
    ...(name ? { name } : {}),
  });
  return result.rows as R[];
};

/**
 * What is issued in the same turn of the event loop leaves in one write: otherwise each statement of a batch
 * costs a system call here and a wake-up there. `pg` keeps its socket at `connection.stream`.
 */
function writesTogether(client: pg.ClientBase): () => void {
  const { stream } = (client as unknown as { connection: { stream: Writable } }).connection;
  let corked = false;
  return () => {
    if (corked) return;
    corked = true;
    stream.cork();
    process.nextTick(() => {
      corked = false;
      stream.uncork();
    });
  };
}

/** Begins, works and commits on one connection of the pool. */
async function inTransaction<T>(pool: pg.Pool, work: (sql: Transaction) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  const onError = (error: Error) => (broken = error);
  client.on('error', onError);
  const together = writesTogether(client);
  try {
    together();
    const begun = client.query('BEGIN');
    begun.catch(() => {});
    let committed: Promise<{ command: string }> | null = null;
    const commit = () => (committed ??= client.query('COMMIT'));
    // Statements go out without waiting for one another. Those behind one that failed are told only that the
    // transaction is aborted: they fail with what it failed with, since any of them may be heard first.
    let cause: unknown;
    const sql: Sql = {
      query: async (text, values, name) => {
        if (committed) throw new Error(`issued after the commit: ${name ?? text}`);
        together();
        const answered = run(client, text, values, name).catch((error: unknown) => {
          throw (cause ??= error);
        });
        const [rows] = await Promise.all([answered, begun]);
        return rows as never;
      },
    };
    const result = await work({
      ...sql,
      finish(write) {
        const written = write(sql);
        commit().catch(() => {});
        return written;
      },
    });
    await begun;
    const { command } = await commit();
    // What PostgreSQL answers where a statement had failed and nobody said so.
    if (command !== 'COMMIT') throw new Error('the transaction was rolled back');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch((failure: Error) => (broken ??= failure));
    throw error;
  } finally {
    client.off('error', onError);
    client.release(broken);
  }
}

/**
 * Opens a pool. Nothing connects until the first query. A query rejects with `pg`'s error: `isUnavailable` tells a database
 * that is away from a statement that is wrong.
 */
export function openDatabase(options: DatabaseOptions): Database {
  // Every statement of the server finds its rows by an index. The planner must not learn that from statistics
  // that a young table does not have yet: a hash join planned on an empty table stays cached while it grows.
  const planner = '-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off';
  // Both ends notice within half a minute that the other is gone: what it held, a lock among it, is free again.
  const alive = '-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3';
  const session = {
    connectionString: options.url,
    connectionTimeoutMillis: options.connect_timeout_ms,
    options: `-c TimeZone=UTC -c statement_timeout=${options.statement_timeout_ms} -c idle_in_transaction_session_timeout=${options.idle_in_transaction_timeout_ms} ${planner} ${alive}`,
    application_name: 'coulomb',
    keepAlive: true,
    // Queries that are issued together go out together and run in that order: a batch waits for a few round
    // trips instead of a dozen.
    pipeline: true,
  };
  const pool = new pg.Pool({ ...session, max: options.max_connections, idleTimeoutMillis: 60_000 });
  // An idle connection that breaks is replaced by the pool; without a listener it would end the process.
  pool.on('error', () => {});

  return {
    query: (text, values, name) => run(pool, text, values, name),
    transaction: (work) => inTransaction(pool, work),
    connect: async (lost = () => {}) => {
      const client = new pg.Client(session);
      await client.connect();
      return client.on('error', () => lost(client)).on('end', () => lost(client));
    },
    stats: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    close: () => pool.end(),
  };
}

/** For `JSON.stringify`: bigints as strings, exact. */
export const bigintToText = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint' ? value.toString() : value;

/** Rows as the one JSON parameter of `json_to_recordset` / `json_populate_recordset`; bigints stay exact. */
export const rowsParameter = (rows: readonly object[]): string => JSON.stringify(rows, bigintToText);

const insertNames = new Map<string, string>();

/**
 * `INSERT` of many rows in one statement. All rows have the keys of the first one; columns that they do
 * not name take the table's defaults. Rejects on a key that exists, like any constraint.
 */
export async function insertRows(sql: Sql, table: string, rows: readonly object[]): Promise<void> {
  const first = rows[0];
  if (!first) return;
  const columns = Object.keys(first)
    .map((column) => `"${column}"`)
    .join(', ');
  const text = `INSERT INTO ${table} (${columns}) SELECT ${columns} FROM json_populate_recordset(NULL::${table}, $1)`;
  let name = insertNames.get(text);
  if (name === undefined) insertNames.set(text, (name = `insert ${insertNames.size} ${table}`));
  await sql.query(text, [rowsParameter(rows)], name);
}

/** Lets this transaction read whole tables: for audits and sums, which look at everything. */
export async function allowWholeTables(sql: Sql): Promise<void> {
  await sql.query(
    'SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on',
  );
}

/** SQLSTATE of a database error, or undefined for anything else. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

// Connection lost, out of resources, shutting down, ended for sitting idle, a fault of its machine.
const UNAVAILABLE_STATE = /^(08|53|57P0|25P03|58)/;
const UNREACHABLE = /^(ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|ENOTFOUND|EHOSTUNREACH|ENOENT|EAI_AGAIN)$/;

/** True when the error says that the database cannot be used now, not that the statement was wrong. */
export function isUnavailable(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === 'string' && (UNAVAILABLE_STATE.test(code) || UNREACHABLE.test(code))) return true;
  const message = error instanceof Error ? error.message : '';
  return /Connection terminated|timeout exceeded when trying to connect|connection error|not queryable|Cannot use a pool after/i.test(
    message,
  );
}
