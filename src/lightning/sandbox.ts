import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { CHAINS } from './address.ts';
import type { LightningNode, NodeListener, SettledInvoice } from './node.ts';
import { createSandboxChain, type SandboxChain } from './sandbox-chain.ts';
import { createSandboxInvoices, type SandboxInvoices } from './sandbox-invoices.ts';
import { addressOf } from './sandbox-keys.ts';
import { createSandboxPayments, type SandboxPayments } from './sandbox-outside.ts';

/** The sandbox: a node behind the port, and the world around it that its HTTP routes drive. */
export interface SandboxNode extends LightningNode {
  outside: {
    makeInvoice: SandboxPayments['makeInvoice'];
    payInvoice: SandboxInvoices['pay'];
    payAddress: SandboxChain['payFromOutside'];
    /** A fresh address that is nobody's here. */
    address(): string;
    mine(count: number): Promise<number>;
    reorg(depth: number): Promise<{ height: number; orphaned: string[] }>;
    replace(tx_id: string, to_us: boolean): Promise<string | null>;
    /** Ends a stuck or unknown payment; false when it is not in flight. */
    release(payment_hash: string, outcome: 'settle' | 'fail'): Promise<boolean>;
  };
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

async function readSeed(db: Database): Promise<Buffer> {
  await db.query('INSERT INTO sandbox_nodes (node_id, seed) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
    SANDBOX_ID,
    randomBytes(32),
  ]);
  const [row] = await db.query<{ seed: Buffer }>('SELECT seed FROM sandbox_nodes WHERE node_id = $1', [
    SANDBOX_ID,
  ]);
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
  const chain = createSandboxChain(db, clock, seed);
  const payments = createSandboxPayments(db, clock, seed);
  const told = createMemory();
  let listener: NodeListener | null = null;
  const invoices = createSandboxInvoices(db, clock, seed, async (settled) => {
    told.add(settled);
    await listener?.settled(settled);
  });
  const changed = async (): Promise<void> => listener?.chainChanged();
  const subscription = createSubscription({ log, invoices, payments, chain, told, block_seconds });

  return {
    id: SANDBOX_ID,
    network: 'mutinynet',
    chain: CHAINS.mutinynet,
    sandbox: true,
    // A call is a transaction in this database: it ends with its caller.
    call_window_ms: 0,
    reachable: () => true,
    createInvoices: invoices.create,
    cancelInvoices: invoices.cancel,
    newAddresses: (references) => Promise.resolve(references.map((reference) => addressOf(seed, reference))),
    settledAmong: invoices.settledAmong,
    pay: payments.pay,
    lookupPayments: payments.lookup,
    paymentIndex: payments.paymentIndex,
    buildTransaction: chain.build,
    async broadcast(raw) {
      await chain.broadcast(raw);
    },
    transactions: chain.transactions,
    async start(listening) {
      listener = listening;
      const { tip_height } = await chain.transactions(FAR_HEIGHT);
      const { settle_index } = await listening.connected({
        identity: SANDBOX_ID,
        chain: 'mutinynet',
        block_height: tip_height,
      });
      await subscription.start(listening, settle_index);
    },
    async stop() {
      await subscription.stop();
      listener = null;
    },
    async ping() {
      await db.query('SELECT 1');
    },
    books: null,
    async worth() {
      return {
        channels_msats: (await invoices.worth()) + (await payments.worth()),
        chain_msats: (await chain.worth()) * 1000n,
      };
    },
    outside: {
      makeInvoice: payments.makeInvoice,
      payInvoice: invoices.pay,
      async payAddress(address, amount_sats) {
        const paid = await chain.payFromOutside(address, amount_sats);
        await changed();
        return paid;
      },
      address: () => addressOf(randomBytes(32), 'outside'),
      async mine(count) {
        const height = await chain.mine(count);
        await changed();
        return height;
      },
      async reorg(depth) {
        const result = await chain.reorg(depth);
        await changed();
        return result;
      },
      async replace(tx_id, to_us) {
        const replaced = await chain.replace(tx_id, to_us);
        if (replaced !== null) await changed();
        return replaced;
      },
      async release(payment_hash, outcome) {
        const end = await payments.release(payment_hash, outcome);
        if (end) await listener?.ended(payment_hash, end);
        return end !== null;
      },
    },
  };
}

/** Settlements that this process has told already, as many as could come up again. */
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

interface SubscriptionDeps {
  log: Logger;
  invoices: SandboxInvoices;
  payments: SandboxPayments;
  chain: SandboxChain;
  told: ReturnType<typeof createMemory>;
  block_seconds: number;
}

/** Tells what other processes' callers did, what became due, and mines in the background. */
function createSubscription({ log, invoices, payments, chain, told, block_seconds }: SubscriptionDeps) {
  let timer: NodeJS.Timeout | null = null;
  let running: Promise<void> = Promise.resolve();
  let cursor = 0n;

  async function replay(listener: NodeListener): Promise<void> {
    for (;;) {
      const page = await invoices.settledSince(cursor, REPLAY_LIMIT);
      const fresh = page.filter(({ payment_hash }) => !told.has(payment_hash));
      if (fresh.length > 0) await listener.settled(fresh);
      told.add(fresh);
      const last = page.at(-1);
      if (page.length < REPLAY_LIMIT || !last) {
        if (last && last.settle_index - OVERLAP > cursor) cursor = last.settle_index - OVERLAP;
        return;
      }
      cursor = last.settle_index;
    }
  }

  async function tick(listener: NodeListener): Promise<void> {
    try {
      for (const { payment_hash, outcome } of await payments.endDue())
        await listener.ended(payment_hash, outcome);
      await replay(listener);
      if (block_seconds > 0 && (await chain.mineIfDue(block_seconds * 1000))) await listener.chainChanged();
    } catch (error) {
      log.warn({ err: error }, 'sandbox not read, will be tried again');
    }
  }

  return {
    async start(listener: NodeListener, settle_index: bigint): Promise<void> {
      cursor = settle_index > OVERLAP ? settle_index - OVERLAP : 0n;
      await replay(listener);
      const next = (): void => {
        timer = setTimeout(() => {
          running = tick(listener).then(next);
        }, TICK_MS);
      };
      next();
    },
    async stop(): Promise<void> {
      if (timer) clearTimeout(timer);
      timer = null;
      await running;
      if (timer) clearTimeout(timer);
    },
  };
}
