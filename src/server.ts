import { join } from 'node:path';
import type { Logger } from 'pino';
import { buildApp } from './app.ts';
import { ConfigError, type Config } from './config.ts';
import { addNodeGauges, addPaymentGauges, addRateGauges } from './gauges.ts';
import { Alarm } from './core/alarm.ts';
import { createAuthenticator, KEYS_CHANNEL } from './core/auth.ts';
import { systemClock, within, type Clock } from './core/clock.ts';
import { isUnavailable, openDatabase, type Database } from './core/db.ts';
import { sweepIdempotencyKeys } from './core/idempotency.ts';
import { createMetrics } from './core/metrics.ts';
import { migrate, pendingMigrations } from './core/migrate.ts';
import { cursorSecret, invoiceSecret } from './core/settings.ts';
import { stringifyJson } from './core/json.ts';
import { analyzeGrown } from './core/statistics.ts';
import { openVault, type Vault } from './core/vault.ts';
import { creditRoutes } from './credit/routes.ts';
import { rollUp } from './ledger/rollup.ts';
import type { LightningNode } from './lightning/node.ts';
import { createSandboxNode } from './lightning/sandbox.ts';
import { createNodeBooks } from './nodes/books.ts';
import { lastChains } from './nodes/store.ts';
import { foldCounts } from './payments/fold.ts';
import { createPayments } from './payments/payments.ts';
import { paymentRoutes } from './payments/routes.ts';
import { storedPayment } from './payments/stored.ts';
import { paymentView } from './payments/view.ts';
import { policyRoutes } from './policies/routes.ts';
import { sweepMinutes } from './policies/usage.ts';
import { createRates } from './quotes/rates.ts';
import { quoteRoutes } from './quotes/routes.ts';
import { sweepQuotes } from './quotes/store.ts';
import { sandboxRoutes } from './sandbox/routes.ts';
import { walletRoutes } from './wallets/routes.ts';
import { createResolve, type Resolve } from './webhooks/target.ts';
import { comeDown, COUNTED_ANEW } from './webhooks/restore.ts';
import { CHANNELS } from './webhooks/fanout.ts';
import { createWebhooks } from './webhooks/webhooks.ts';

export interface RunningServer {
  /** Where it listens, without `/v1`. */
  url: string;
  db: Database;
  /** Stops accepting, finishes what was accepted, then closes everything. */
  stop(): Promise<void>;
}

// Where everything is made and handed its parts; nothing else constructs anything. Each slice gets what it needs as
// arguments, so whom it can reach is read here.

// A database that is started beside the server may come up after it.
const DATABASE_WAIT_MS = 30_000;
const DATABASE_PAUSE_MS = 500;
const SWEEP_MS = 60_000;
const STATISTICS_MS = 2000;
// What is not folded is added by every summary: some ten thousand rows at full load, a few ms. More often, and a
// fold finds less to add up of each wallet for the same work.
const FOLD_MS = 5000;
// Another server may be counting many millions.
const COUNTING_MS = 600_000;
const BOOKS_MS = 10_000;

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

/**
 * The vault of an open database, with all that must be done before anything else is written. A key that is not the
 * database's stops the start here: later it would be found out by the first webhook that cannot be signed.
 */
async function prepare(config: Config, db: Database, log: Logger): Promise<Vault> {
  const key_file = join(config.data_dir, 'secret.key');
  const vault = await openVault(db, config.secret_key, key_file, config.database_url === null, log);
  // What happens from here on is told like everything else.
  if (await comeDown(db)) log.warn(COUNTED_ANEW);
  // Counts that there are payments of already: after an upgrade, or a restore.
  await foldCounts(db, COUNTING_MS);
  return vault;
}

/** Constructs everything on an open database; nothing runs yet. */
async function construct(config: Config, db: Database, log: Logger, clock: Clock, resolve: Resolve) {
  const own = { db, clock, log };
  const vault = await prepare(config, db, log);
  const sandbox = await createSandboxNode({ ...own, block_seconds: config.sandbox_block_seconds });
  const all = [sandbox, ...(await openRealNodes(config, db, log))];
  const nodes = new Map<string, LightningNode>(all.map((node) => [node.id, node]));
  const books = createNodeBooks(own);
  const alarm = new Alarm(own, [KEYS_CHANNEL, ...Object.values(CHANNELS)]);
  const rates = createRates({ clock, log, config: config.rates });
  const metrics = createMetrics();
  const payments = createPayments({
    ...own,
    nodes,
    config,
    currentRate: (scope) => rates.current(db, scope),
    onNode: books.book,
    onEvents: (last) => alarm.ring(CHANNELS.events, last),
  });
  const cursor_secret = await cursorSecret(db);
  const webhooks = createWebhooks({
    ...own,
    vault,
    alarm,
    metrics,
    config: config.webhooks,
    cursor_secret,
    resolve,
    show: (row) => stringifyJson(paymentView(storedPayment(row))),
  });
  const { sanctions, quote_seconds, max_batch, max_queue } = config;
  const isSandbox = (node_id: string): boolean => nodes.get(node_id)?.sandbox ?? false;
  const routes = [
    ...walletRoutes({ db, clock, nodes }),
    ...paymentRoutes({ payments, sanctions, cursor_secret }),
    ...policyRoutes({ db, clock, has_sanctions_list: sanctions !== null }),
    ...creditRoutes({ db }),
    ...quoteRoutes({ db, clock, rates, isSandbox, quote_seconds, max_batch, max_queue }),
    ...sandboxRoutes({ sandbox }),
    ...webhooks.routes,
  ];
  const app = await buildApp({
    config,
    log,
    metrics,
    authenticate: createAuthenticator({ db, clock, alarm }),
    idempotency: { db, clock, vault },
    routes,
    notReady: () => notReady(db, all),
  });
  addPaymentGauges(metrics, db, payments);
  addNodeGauges(metrics, all, books);
  addRateGauges(metrics, clock, rates);
  return { app, payments, webhooks, alarm, rates, books, nodes: all };
}

type Parts = Awaited<ReturnType<typeof construct>>;

/** What is done again and again beside the requests. */
const keepHouse = ({ nodes, books, webhooks }: Parts, db: Database, log: Logger, clock: Clock) => [
  every(SWEEP_MS, log, async () => {
    await sweepIdempotencyKeys(db, clock);
    await sweepMinutes(db, clock);
    await sweepQuotes(db, clock);
    await rollUp(db);
    await webhooks.sweep();
  }),
  every(STATISTICS_MS, log, () => analyzeGrown(db)),
  every(FOLD_MS, log, () => foldCounts(db, 0)),
  every(BOOKS_MS, log, () => Promise.all(nodes.filter((node) => node.reachable()).map(books.book))),
];

/** Constructs and wires everything on a database, and listens. */
export async function startServer(
  config: Config,
  url: string,
  log: Logger,
  clock: Clock = systemClock,
  resolve: Resolve = createResolve(),
): Promise<RunningServer> {
  const db = await openAndMigrate(config, url, log);
  const parts = await construct(config, db, log, clock, resolve).catch(async (error: unknown) => {
    await db.close();
    throw error;
  });
  const { app, payments, webhooks, alarm, rates, nodes } = parts;
  const timers = keepHouse(parts, db, log, clock);
  // The sandbox has a rate of its own.
  if (nodes.some((node) => !node.sandbox)) rates.start();
  // Before any request: a new payment's job carries this process's number, and until the lock on that number is held
  // another server takes such a job for one of the dead.
  await payments.start();
  await alarm.start();
  await webhooks.start();
  await app.listen({ host: config.host, port: config.port });
  // The configured port may be 0: any that is free.
  const { port } = app.server.address() as { port: number };
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;
  return {
    url: `http://${host}:${port}`,
    db,
    async stop() {
      // A stream never ends by itself, and the app waits for all that it answers. From there on each part still has
      // what it needs to finish what was accepted: the nodes go after the payments, the database after all.
      await webhooks.endStreams();
      await app.close();
      for (const timer of timers) await timer.stop();
      await payments.stop();
      await webhooks.stop();
      await alarm.stop();
      await rates.stop();
      for (const node of nodes) await node.stop();
      await db.close();
    },
  };
}

// Long enough for a node that is busy; a start is not held up by one that is away.
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
    // One run at a time: one that takes longer than the pause is not joined by another.
    running ??= work()
      .catch((error: unknown) => log.warn({ err: error }, 'housekeeping failed, will be tried again'))
      .finally(() => (running = null));
  }, pause_ms);
  return {
    async stop() {
      clearInterval(timer);
      // What has begun is ended: its connection is closed right after.
      await running;
    },
  };
}

async function notReady(db: Database, nodes: readonly LightningNode[]): Promise<Record<string, string>> {
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
  await Promise.all(nodes.map((node) => check(`node ${node.id}`, () => node.ping())));
  return missing;
}
