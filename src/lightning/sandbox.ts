import { randomBytes } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { toMsats } from '../core/money.ts';
import { CHAINS } from './address.ts';
import type { LightningNode, NodeListener, SendOutcome, SettledInvoice } from './node.ts';
import * as chain from './sandbox-chain.ts';
import * as invoices from './sandbox-invoices.ts';
import { addressOf, type Sandbox } from './sandbox-keys.ts';
import * as outside from './sandbox-outside.ts';

// The node of the sandbox network. It keeps the port's promises by PostgreSQL alone, so that every server process on the
// database serves the same node, and one that is killed leaves nothing behind that another would not tell.

/** The sandbox: a node behind the port, and the world around it that its HTTP routes drive. */
export interface SandboxNode extends LightningNode {
  outside: ReturnType<typeof createOutside>;
}

const SANDBOX_ID = 'sandbox';

const TICK_MS = 500;
/** No block is this high: asked from here on, the chain tells its tip and the mempool only. */
const FAR_HEIGHT = 2 ** 31 - 1;
/** What other processes settled is read again from this far back: an index may be committed late. */
const OVERLAP = 200n;
const REPLAY_LIMIT = 500;
const REMEMBERED = 10_000;

interface SandboxDeps {
  db: Database;
  clock: Clock;
  log: Logger;
  /** Seconds between background blocks; 0: only by hand. */
  block_seconds: number;
}

/** The seed that every process on the database shares: whoever comes first makes it, the others are given that one. */
async function readSeed(db: Database): Promise<Buffer> {
  const [row] = await db.query<{ seed: Buffer }>(
    `INSERT INTO sandbox_nodes AS known (node_id, seed) VALUES ($1, $2)
     ON CONFLICT (node_id) DO UPDATE SET seed = known.seed RETURNING seed`,
    [SANDBOX_ID, randomBytes(32)],
  );
  if (!row) throw new Error('the sandbox has no seed');
  return row.seed;
}

/** Opens the sandbox node; its state is in the database, so a restart loses nothing. */
export async function createSandboxNode({
  db,
  clock,
  log,
  block_seconds,
}: SandboxDeps): Promise<SandboxNode> {
  const seed = await readSeed(db);
  const sandbox = { db, clock, seed };
  const subscription = createSubscription(sandbox, log, block_seconds);
  return {
    id: SANDBOX_ID,
    network: 'mutinynet',
    chain: CHAINS.mutinynet,
    sandbox: true,
    // A call is a transaction in this database: it ends with its caller, and none is ever late.
    call_window_ms: 0,
    reachable: () => true,
    createInvoices: invoices.createInvoices(sandbox),
    cancelInvoices: (payment_hashes) => invoices.cancelInvoices(sandbox, payment_hashes),
    newAddresses: (references) => Promise.resolve(references.map((reference) => addressOf(seed, reference))),
    settledAmong: (payment_hashes) => invoices.settledAmong(sandbox, payment_hashes),
    pay: outside.createPay(sandbox),
    lookupPayments: (payment_hashes) => outside.lookupPayments(db, payment_hashes),
    paymentIndex: () => outside.lastPaymentIndex(sandbox),
    buildTransaction: (request) => chain.buildTransaction(sandbox, request),
    broadcast: (raw) => chain.broadcast(sandbox, raw),
    transactions: (since_height) => chain.transactionsSince(sandbox, since_height),
    start: subscription.start,
    stop: subscription.stop,
    async ping() {
      await db.query('SELECT 1');
    },
    books: null,
    worth: () => worthOf(db),
    outside: createOutside(sandbox, subscription),
  };
}

/** All that its channels and its chain wallet took in and gave, as of one moment: a sum of whole lists, for gauges only. */
async function worthOf(db: Database) {
  const [sums] = await db.query<{ channels_msats: string; chain_sats: string }>(
    `SELECT (SELECT coalesce(sum(paid_msats), 0) FROM sandbox_invoices WHERE settle_index IS NOT NULL)
       - (SELECT coalesce(sum(amount_msats + fee_msats), 0) FROM sandbox_payments WHERE state = 'settled')
       AS channels_msats,
       (SELECT coalesce(sum(CASE direction WHEN 'in' THEN amount_sats ELSE -amount_sats - fee_sats END)
         FILTER (WHERE state = 'mined' OR (direction = 'out' AND state = 'mempool')), 0)
        FROM sandbox_transactions) AS chain_sats`,
  );
  return {
    channels_msats: BigInt(sums?.channels_msats ?? 0),
    chain_msats: toMsats(BigInt(sums?.chain_sats ?? 0)),
  };
}

/** The world around the node; the node's listener is told of what happens there before the caller is. */
function createOutside(sandbox: Sandbox, told: ReturnType<typeof createSubscription>) {
  /** What changes the chain: nothing did where the answer is null. */
  const changed = async <T>(work: Promise<T>): Promise<T> => {
    const result = await work;
    if (result !== null) await told.chainChanged();
    return result;
  };
  return {
    makeInvoice: outside.createOutsideInvoices(sandbox),
    payInvoice: invoices.createOutsidePayer(sandbox, told.settled),
    payAddress: (address: string, amount_sats: bigint) =>
      changed(chain.payAddress(sandbox, address, amount_sats)),
    /** A fresh address that is nobody's here. */
    address: () => addressOf(randomBytes(32), 'outside'),
    mine: (count: number) => changed(chain.mine(sandbox, count)),
    reorg: (depth: number) => changed(chain.reorg(sandbox, depth)),
    replace: (tx_id: string, to_us: boolean) => changed(chain.replace(sandbox, tx_id, to_us)),
    /** Ends a stuck or unknown payment; false when it is not in flight. */
    async release(payment_hash: string, outcome: 'settle' | 'fail') {
      const end = await outside.release(sandbox, payment_hash, outcome);
      if (end) await told.ended(payment_hash, end);
      return end !== null;
    },
  };
}

/**
 * Settlements that this process has told already, as many as could come up again: telling one twice credits nothing twice,
 * but would cost each payment a second look.
 */
function createMemory() {
  let recent = new Set<string>();
  let older = new Set<string>();
  return {
    has: (hash: string): boolean => recent.has(hash) || older.has(hash),
    add(settled: readonly SettledInvoice[]): void {
      for (const { payment_hash } of settled) recent.add(payment_hash);
      if (recent.size > REMEMBERED) {
        older = recent;
        recent = new Set();
      }
    },
  };
}

/**
 * Tells the node's listener what this process did, and on a timer what other processes' callers did and what became
 * due; mines in the background.
 */
function createSubscription(sandbox: Sandbox, log: Logger, block_seconds: number) {
  const told = createMemory();
  let listener: NodeListener | null = null;
  const ending = new AbortController();
  let running: Promise<void> = Promise.resolve();
  let cursor = 0n;

  async function replay(listening: NodeListener): Promise<void> {
    for (;;) {
      const page = await invoices.settledSince(sandbox, cursor, REPLAY_LIMIT);
      const fresh = page.filter(({ payment_hash }) => !told.has(payment_hash));
      if (fresh.length > 0) await listening.settled(fresh);
      told.add(fresh);
      const last = page.at(-1);
      if (page.length < REPLAY_LIMIT || !last) {
        if (last && last.settle_index - OVERLAP > cursor) cursor = last.settle_index - OVERLAP;
        return;
      }
      cursor = last.settle_index;
    }
  }

  async function tick(listening: NodeListener): Promise<void> {
    try {
      for (const { payment_hash, outcome } of await outside.endDue(sandbox))
        await listening.ended(payment_hash, outcome);
      await replay(listening);
      if (block_seconds > 0 && (await chain.mineIfDue(sandbox, block_seconds * 1000)))
        await listening.chainChanged();
    } catch (error) {
      log.warn({ err: error }, 'sandbox not read, will be tried again');
    }
  }

  async function run(listening: NodeListener): Promise<void> {
    const { signal } = ending;
    while (!signal.aborted) {
      await setTimeout(TICK_MS, undefined, { signal }).catch(() => {});
      if (!signal.aborted) await tick(listening);
    }
  }

  return {
    async settled(settled: SettledInvoice[]): Promise<void> {
      told.add(settled);
      await listener?.settled(settled);
    },
    chainChanged: async (): Promise<void> => listener?.chainChanged(),
    ended: async (payment_hash: string, outcome: SendOutcome): Promise<void> =>
      listener?.ended(payment_hash, outcome),
    async start(listening: NodeListener): Promise<void> {
      listener = listening;
      const { tip_height } = await chain.transactionsSince(sandbox, FAR_HEIGHT);
      const identity = { identity: SANDBOX_ID, chain: 'mutinynet', block_height: tip_height };
      const { settle_index } = await listening.connected(identity);
      cursor = settle_index > OVERLAP ? settle_index - OVERLAP : 0n;
      await replay(listening);
      running = run(listening);
    },
    async stop(): Promise<void> {
      ending.abort();
      await running;
      listener = null;
    },
  };
}
