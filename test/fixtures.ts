import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { VoltageClient } from 'voltage-api-sdk';
import { bootstrap, type Credentials } from '../src/admin/bootstrap.ts';
import { loadConfig } from '../src/config.ts';
import type { Clock } from '../src/core/clock.ts';
import type { Database } from '../src/core/db.ts';
import { createLog } from '../src/core/log.ts';
import type { NodeEntry } from '../src/lightning/nodes-file.ts';
import { runAudit } from '../src/ledger/audit.ts';
import { rollUp } from '../src/ledger/rollup.ts';
import { startServer } from '../src/server.ts';
import type { Resolve } from '../src/webhooks/target.ts';
import { createClient, installFetchHook, type Client } from './client.ts';
import { createTestDatabase } from './database.ts';
import { GIVE_UP_MS } from './wait.ts';

export interface TestServer {
  /** Ends in /v1. */
  base_url: string;
  credentials: Credentials;
  client: Client;
  sdk: VoltageClient;
  db: Database;
  database_url: string;
  stop(): Promise<void>;
}

const LINE_LIMIT_MSATS = 1_000_000_000n;

/** Another organization with all that it needs, on the same database. */
export const newTenant = (
  db: Database,
  network = 'mutinynet',
  nodes: readonly NodeEntry[] = [],
): Promise<Credentials> =>
  bootstrap(
    db,
    {
      organization: 'Test',
      kind: 'staging',
      network,
      currency: 'btc',
      limit: LINE_LIMIT_MSATS,
      wallet_name: 'Test wallet',
    },
    nodes,
  );

/** What a program of ours gets of this environment: the way to other programs, and what Node has compiled already. */
export const INHERITED: Record<string, string> = Object.fromEntries(
  ['PATH', 'NODE_COMPILE_CACHE'].map((name) => [name, process.env[name] ?? '']),
);

const settings = (environment: Record<string, string>): Record<string, string> => ({
  COULOMB_PORT: '0',
  COULOMB_SANDBOX_BLOCK_SECONDS: '0',
  COULOMB_LOG_LEVEL: 'fatal',
  // No test depends on the internet.
  COULOMB_RATE_SOURCES: 'none',
  COULOMB_SECRET_KEY: 'c'.repeat(64),
  COULOMB_WEBHOOK_ALLOW_PRIVATE: 'true',
  ...environment,
});

/** A real server over HTTP in this process, on a database of its own, with one tenant. */
export async function startTestServer(
  environment: Record<string, string> = {},
  clock?: Clock,
  network?: string,
  resolve?: Resolve,
): Promise<TestServer> {
  installFetchHook();
  const database = await createTestDatabase();
  const config = loadConfig(settings(environment));
  const server = await startServer(config, database.url, createLog(config.log_level), clock, resolve);
  const credentials = await newTenant(database.db, network, config.nodes);
  const base_url = `${server.url}/v1`;
  return {
    base_url,
    credentials,
    client: createClient(base_url, credentials.api_key),
    sdk: new VoltageClient({ baseUrl: base_url, apiKey: credentials.api_key }),
    db: database.db,
    database_url: database.url,
    async stop() {
      await server.stop();
      await database.drop();
    },
  };
}

export interface ServerProcess {
  base_url: string;
  process: ChildProcess;
  /** Everything that it printed. */
  output(): string;
  kill(signal: NodeJS.Signals): Promise<void>;
}

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const START_MS = 60_000;

/** A server in a process of its own, to be killed; on the given database. */
export async function spawnServer(
  database_url: string,
  environment: Record<string, string> = {},
): Promise<ServerProcess> {
  const child = spawn(process.execPath, [MAIN, 'serve'], {
    env: { ...INHERITED, DATABASE_URL: database_url, ...settings(environment) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  child.stderr.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  const url = await new Promise<string>((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`server did not start: ${printed}`)), START_MS);
    child.stdout.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
      const [, found] = /Coulomb listens on (\S+)/.exec(printed) ?? [];
      if (found === undefined) return;
      clearTimeout(timer);
      done(found);
    });
    child.on('exit', (code) => fail(new Error(`server ended (${code}): ${printed}`)));
  });
  return {
    base_url: `${url}/v1`,
    process: child,
    output: () => printed,
    async kill(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((done) => child.once('exit', done));
      child.kill(signal);
      await gone;
    },
  };
}

/** Fails unless every check of the audit passes. */
export async function auditClean(db: Database): Promise<void> {
  const failed = (await runAudit(db)).filter(({ ok }) => !ok);
  assert.deepEqual(failed, [], 'the audit finds no fault');
}

/**
 * Adds up all that is committed now; answers how many accounts changed. A transaction of another test's database
 * holds the horizon back, too: it is one for the whole cluster.
 */
export async function rolledUp(db: Database): Promise<number> {
  const [now] = await db.query<{ txid: string }>('SELECT pg_current_xact_id()::text AS txid');
  const give_up_at = Date.now() + GIVE_UP_MS;
  for (let changed = 0; ;) {
    changed += await rollUp(db);
    const [horizon] = await db.query<{ txid: string }>(
      `SELECT value #>> '{}' AS txid FROM settings WHERE key = 'rollup_before_txid'`,
    );
    if (BigInt(horizon?.txid ?? 0) > BigInt(now?.txid ?? 0)) return changed;
    assert.ok(Date.now() < give_up_at, 'the horizon comes to here');
    await new Promise((done) => setTimeout(done, 20));
  }
}
