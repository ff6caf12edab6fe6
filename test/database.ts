import { randomBytes } from 'node:crypto';
import { mkdtempSync, chmodSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDatabase, type Database } from '../src/core/db.ts';
import { startEmbedded, type Embedded } from '../src/core/embedded.ts';
import { createLog } from '../src/core/log.ts';
import { migrate } from '../src/core/migrate.ts';

const TEMPLATE = 'coulomb_template';
const LIMITS = {
  max_connections: 10,
  statement_timeout_ms: 60_000,
  idle_in_transaction_timeout_ms: 60_000,
  connect_timeout_ms: 10_000,
};

export interface TestCluster {
  url: string;
  /** kill -9: PostgreSQL is gone at once, and started again by whoever runs it. */
  kill(): void;
  stop(): Promise<void>;
}

const at = (url: string, name: string): string => {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
};

/** A PostgreSQL with a migrated template, under a folder if one is given; thrown away at the end. */
export async function startCluster(under = tmpdir()): Promise<TestCluster> {
  const folder = mkdtempSync(join(under, 'coulomb-test-'));
  chmodSync(folder, 0o711);
  const embedded: Embedded = await startEmbedded(folder, createLog('fatal'));
  await withDatabase(embedded.url, (db) => db.query(`CREATE DATABASE ${TEMPLATE}`));
  await withDatabase(at(embedded.url, TEMPLATE), (db) => migrate(db));
  return {
    url: embedded.url,
    kill() {
      const [pid] = readFileSync(join(embedded.folder, 'postmaster.pid'), 'utf8').split('\n');
      process.kill(Number(pid), 'SIGKILL');
    },
    async stop() {
      await embedded.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The one of a whole run. It need not outlive this machine: no commit waits for the disk. */
export async function startSharedCluster(): Promise<TestCluster> {
  const cluster = await startCluster();
  await withDatabase(cluster.url, async (db) => {
    await db.query('ALTER SYSTEM SET fsync = off');
    await db.query('SELECT pg_reload_conf()');
  });
  return cluster;
}

async function withDatabase(url: string, work: (db: Database) => Promise<unknown>): Promise<void> {
  const db = openDatabase({ url, ...LIMITS });
  try {
    await work(db);
  } finally {
    await db.close();
  }
}

let own: Promise<TestCluster> | null = null;
let open = 0;

/** The cluster of the whole run, or one of this file's own when it is run by itself. */
async function clusterUrl(): Promise<string> {
  const given = process.env['COULOMB_TEST_CLUSTER'];
  if (given !== undefined) return given;
  own ??= startCluster();
  return (await own).url;
}

export interface TestDatabase {
  url: string;
  db: Database;
  drop(): Promise<void>;
}

/** A database of its own for one test file, cloned from the template; on a cluster of its own if one is given. */
export async function createTestDatabase(given?: TestCluster): Promise<TestDatabase> {
  const cluster = given?.url ?? (await clusterUrl());
  open += 1;
  const name = `test_${randomBytes(6).toString('hex')}`;
  await withDatabase(cluster, (db) => db.query(`CREATE DATABASE ${name} TEMPLATE ${TEMPLATE}`));
  const url = at(cluster, name);
  const db = openDatabase({ url, ...LIMITS });
  return {
    url,
    db,
    async drop() {
      await db.close();
      await withDatabase(cluster, (admin) => admin.query(`DROP DATABASE ${name} WITH (FORCE)`));
      open -= 1;
      if (open > 0) return;
      const mine = await own;
      own = null;
      await mine?.stop();
    },
  };
}
