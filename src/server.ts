import { join } from 'node:path';
import type { Logger } from 'pino';
import { buildApp } from './app.ts';
import { ConfigError, type Config } from './config.ts';
import { createAlarm } from './core/alarm.ts';
import { createAuthenticator } from './core/auth.ts';
import { systemClock, type Clock } from './core/clock.ts';
import { isUnavailable, openDatabase, type Database } from './core/db.ts';
import { createIdempotency } from './core/idempotency.ts';
import { createMetrics, type Metrics } from './core/metrics.ts';
import { migrate, pendingMigrations } from './core/migrate.ts';
import { cursorSecret, invoiceSecret } from './core/settings.ts';
import { stringifyJson } from './core/json.ts';
import { analyzeGrown } from './core/statistics.ts';
import { openVault } from './core/vault.ts';
import { creditRoutes } from './credit/routes.ts';
import { rollUp } from './ledger/rollup.ts';
import type { LightningNode } from './lightning/node.ts';
import { createSandboxNode } from './lightning/sandbox.ts';
import { createNodeBooks } from './nodes/books.ts';
import { lastChains } from './nodes/store.ts';
import { createPayments, type PaymentEngine } from './payments/payments.ts';
import { paymentRoutes } from './payments/routes.ts';
import type { Payment } from './payments/types.ts';
import { paymentView } from './payments/view.ts';
import { sandboxRoutes } from './sandbox/routes.ts';
import { walletRoutes } from './wallets/routes.ts';
import { systemResolve, type Resolve } from './webhooks/target.ts';
import { CHANNELS, createWebhooks } from './webhooks/webhooks.ts';

export interface RunningServer {
  /** Where it listens, without `/v1`. */
  url: string;
  db: Database;
  /** Stops accepting, finishes what was accepted, then closes everything. */
  stop(): Promise<void>;
}

const DATABASE_WAIT_MS = 30_000;
const DATABASE_PAUSE_MS = 500;
const SWEEP_MS = 60_000;
const STATISTICS_MS = 2000;
const BOOKS_MS = 10_000;
const READY_TIMEOUT_MS = 2000;

/** Opens the pool; waits a while for a database that is not up yet. */
async function openAndMigrate(config: Config, url: string, log: Logger): Promise<Database> {
  const db = openDatabase({ url, ...config.database });
  const give_up_at = Date.now() + DATABASE_WAIT_MS;
  for (;;) {
    try {
      const applied = await migrate(db);
      if (applied.length > 0) log.info({ migrations: applied }, 'migrations applied');
      return db;
    } catch (error) {
      if (!isUnavailable(error) || Date.now() > give_up_at) {
        await db.close();
        throw error;
      }
      log.warn({ err: error }, 'the database does not answer yet');
      await new Promise((done) => setTimeout(done, DATABASE_PAUSE_MS));
    }
  }
}

/** Constructs and wires everything on a database, and listens. */
export async function startServer(
  config: Config,
  url: string,
  log: Logger,
  clock: Clock = systemClock,
  resolve: Resolve = systemResolve,
): Promise<RunningServer> {
  const db = await openAndMigrate(config, url, log);
  const vault = await openVault(db, config.secret_key, join(config.data_dir, 'secret.key'), log).catch(
    async (error: unknown) => {
      await db.close();
      throw error;
    },
  );
  const metrics = createMetrics();
  const sandbox = await createSandboxNode({ db, clock, log, block_seconds: config.sandbox_block_seconds });
  const real = await openRealNodes(config, db, log);
  const nodes = new Map<string, LightningNode>([sandbox, ...real].map((node) => [node.id, node]));
  const books = createNodeBooks({ db, clock, log });
  const alarm = createAlarm({ db, log }, Object.values(CHANNELS));
  const payments = createPayments({
    db,
    clock,
    log,
    nodes,
    config,
    onNode: books.book,
    onEvents: (last) => alarm.ring(CHANNELS.events, last),
  });
  const cursor_secret = await cursorSecret(db);
  const webhooks = createWebhooks({
    db,
    clock,
    log,
    vault,
    alarm,
    metrics,
    config: config.webhooks,
    cursor_secret,
    resolve,
    show: (row) => stringifyJson(paymentView(row as unknown as Payment)),
  });
  const authenticator = createAuthenticator({ db, clock, log });
  const idempotency = createIdempotency({ db, clock, vault });
  const { max_batch, max_queue } = config;
  const app = await buildApp({
    config,
    log,
    clock,
    metrics,
    authenticator,
    idempotency,
    routes: [
      ...walletRoutes({ db, clock, nodes }),
      ...paymentRoutes({
        db,
        clock,
        nodes,
        payments,
        cursor_secret,
        max_batch,
        max_queue,
      }),
      ...creditRoutes({ db }),
      ...sandboxRoutes({ sandbox }),
      ...webhooks.routes,
    ],
    notReady: () => notReady(db, nodes),
  });
  addGauges(metrics, db, nodes, payments, books);
  const timers = [
    every(SWEEP_MS, log, async () => {
      await idempotency.sweep();
      await rollUp(db);
      await webhooks.sweep();
    }),
    every(STATISTICS_MS, log, () => analyzeGrown(db)),
    every(BOOKS_MS, log, () =>
      Promise.all([...nodes.values()].filter((node) => node.reachable()).map(books.book)),
    ),
  ];
  await authenticator.start();
  await payments.start();
  await alarm.start();
  await webhooks.start();
  await app.listen({ host: config.host, port: config.port });
  const { port } = app.server.address() as { port: number };
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;
  return {
    url: `http://${host}:${port}`,
    db,
    async stop() {
      await webhooks.endStreams();
      await app.close();
      for (const timer of timers) await timer.stop();
      await payments.stop();
      await webhooks.stop();
      await alarm.stop();
      for (const node of nodes.values()) await node.stop();
      await authenticator.stop();
      await db.close();
    },
  };
}

const PROBE_MS = 5000;

/**
 * Opens the registered nodes. One that answers and cannot be used is a fault of the configuration, told with all
 * the others; one that does not answer is connected to later.
 */
async function openRealNodes(config: Config, db: Database, log: Logger): Promise<LightningNode[]> {
  if (config.nodes.length === 0) return [];
  // Loading lnd's protocol takes a while: only where there is an lnd.
  const { createLndNode } = await import('./lightning/lnd.ts');
  const invoice_secret = await invoiceSecret(db);
  // What an invoice of a node's chain looks like is known while the node is away, too.
  const chains = await lastChains(db);
  const nodes = config.nodes.map((entry) =>
    createLndNode({ ...entry, last_chain: chains.get(entry.id) ?? null, invoice_secret, log }),
  );
  const faults = await Promise.all(
    nodes.map(async (node) => {
      const found = await within(node.faults(), PROBE_MS).catch((error: unknown) => {
        log.warn({ node_id: node.id, reason: (error as Error).message }, 'node does not answer yet');
        return [];
      });
      return found.map((fault) => `node ${node.id}: ${fault}`);
    }),
  );
  if (faults.flat().length === 0) return nodes;
  await Promise.all(nodes.map((node) => node.stop()));
  throw new ConfigError(`nodes are not usable:\n  ${faults.flat().join('\n  ')}`);
}

/** Worth of every registered node against the ledger; a node that does not answer is named with the reason. */
export async function compareRegisteredNodes(
  config: Config,
  db: Database,
  log: Logger,
): Promise<Record<string, unknown>[]> {
  const nodes = await openRealNodes(config, db, log);
  const books = createNodeBooks({ db, clock: systemClock, log });
  try {
    return await Promise.all(
      nodes.map(async (node) => {
        try {
          await within(books.book(node), PROBE_MS);
          return { ...(await within(books.compare(node), PROBE_MS)) };
        } catch (error) {
          return { node_id: node.id, error: (error as Error).message };
        }
      }),
    );
  } finally {
    await Promise.all(nodes.map((node) => node.stop()));
  }
}

/** Repeats `work` with a pause between two runs; a failure is logged and does not end it. */
function every(pause_ms: number, log: Logger, work: () => Promise<unknown>) {
  let running: Promise<unknown> | null = null;
  const timer = setInterval(() => {
    running ??= work()
      .catch((error: unknown) => log.warn({ err: error }, 'housekeeping failed, will be tried again'))
      .finally(() => (running = null));
  }, pause_ms);
  return {
    async stop() {
      clearInterval(timer);
      await running;
    },
  };
}

async function within<T>(work: Promise<T>, timeout_ms = READY_TIMEOUT_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), timeout_ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

async function notReady(
  db: Database,
  nodes: ReadonlyMap<string, LightningNode>,
): Promise<Record<string, string>> {
  const missing: Record<string, string> = {};
  const check = async (name: string, work: () => Promise<unknown>): Promise<void> => {
    try {
      await within(work());
    } catch (error) {
      missing[name] = (error as Error).message;
    }
  };
  await check('database', async () => {
    const pending = await pendingMigrations(db);
    if (pending.length > 0) throw new Error(`migrations pending: ${pending.join(', ')}`);
  });
  await Promise.all([...nodes.values()].map((node) => check(`node ${node.id}`, () => node.ping())));
  return missing;
}

function addGauges(
  metrics: Metrics,
  db: Database,
  nodes: ReadonlyMap<string, LightningNode>,
  payments: PaymentEngine,
  books: ReturnType<typeof createNodeBooks>,
): void {
  metrics.gauge('coulomb_queue_depth', 'Commands that wait for their batch', [], () =>
    Promise.resolve([[{}, payments.queueDepth()]]),
  );
  metrics.gauge('coulomb_database_connections', 'Connections of the pool', ['state'], () => {
    const { total, idle, waiting } = db.stats();
    return Promise.resolve([
      [{ state: 'open' }, total],
      [{ state: 'idle' }, idle],
      [{ state: 'waited_for' }, waiting],
    ]);
  });
  metrics.gauge(
    'coulomb_payments_in_flight',
    'Payments that somebody still has to move, by state',
    ['state'],
    async () => {
      const rows = await db.query<{ state: string; count: bigint }>(
        `SELECT p.state, count(*) AS count FROM jobs j
       JOIN payments p ON p.organization_id = j.organization_id AND p.environment_id = j.environment_id
         AND p.id = j.payment_id
       GROUP BY p.state`,
      );
      return rows.map(({ state, count }) => [{ state }, Number(count)]);
    },
  );
  metrics.gauge(
    'coulomb_oldest_send_in_flight_seconds',
    'Age of the oldest send that has not ended',
    [],
    async () => {
      const [row] = await db.query<{ age: number | null }>(
        `SELECT extract(epoch FROM now() - min(p.created_at))::float8 AS age FROM jobs j
       JOIN payments p ON p.organization_id = j.organization_id AND p.environment_id = j.environment_id
         AND p.id = j.payment_id
       WHERE j.kind IN ('dispatch', 'internal', 'track', 'chain')`,
      );
      return [[{}, row?.age ?? 0]];
    },
  );
  metrics.gauge(
    'coulomb_node_drift_msats',
    'Worth of a node minus the ledger; 0 when nothing moves',
    ['node'],
    async () => {
      const drifts = await Promise.all(
        [...nodes.values()].map(async (node): Promise<[Record<string, string>, number][]> => {
          // A node that is away has no worth to compare; the gauge below says so.
          if (!node.reachable()) return [];
          await within(books.book(node));
          const { drift_msats } = await within(books.compare(node));
          return [[{ node: node.id }, Number(drift_msats)]];
        }),
      );
      return drifts.flat();
    },
  );
  metrics.gauge('coulomb_node_reachable', '1 while a connection to the node stands', ['node'], () =>
    Promise.resolve([...nodes.values()].map((node) => [{ node: node.id }, node.reachable() ? 1 : 0])),
  );
}
