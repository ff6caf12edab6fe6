import { createLane, type Lane } from '../core/batch.ts';
import { createTimestamps } from '../core/clock.ts';
import type { LightningNode } from '../lightning/node.ts';
import { createCalls } from './calls.ts';
import { firstJob, type Created } from './create.ts';
import { applyOutcome, broadcastStored, dispatch, pay } from './dispatch.ts';
import { createStep, PAUSE_MS, type Engine, type Step } from './engine.ts';
import { exchange } from './exchange.ts';
import { generate } from './generate.ts';
import { NodeHistories } from './history.ts';
import { settleInside } from './inside.ts';
import { JobBoard, type Job } from './jobs.ts';
import { COMPARE_FROM_START, compareInvoices, creditSettled, expire, track } from './recover.ts';
import { scanChain } from './scan.ts';
import { readPayments } from './store.ts';
import { refKey, type JobKind, type Payment, type PaymentRef } from './types.ts';
import { createWriter } from './writer.ts';

// Where payments are set in motion: a lane per node and kind of job, the board that takes jobs which are due, and the
// listeners of every node. What a job does is in the file of its step; nothing here decides about a payment.

export interface PaymentsDeps extends Pick<
  Engine,
  'db' | 'clock' | 'log' | 'nodes' | 'config' | 'currentRate'
> {
  /** Runs when a node has connected, before anything is sent through it, and whenever its chain changed. */
  onNode(node: LightningNode): Promise<void>;
  /** Runs after each commit that wrote events, with the highest number of them. */
  onEvents(last: bigint): void;
}

/** Everything that moves payments in this process. */
export interface PaymentEngine {
  engine: Engine;
  /** Starts a payment that was just created on its way. */
  begin(created: Created): void;
  start(): Promise<void>;
  /** Finishes the batches under way; what is left is free for other processes. */
  stop(): Promise<void>;
  queueDepth(): number;
}

// How late a payment may be that no subscription told of: rarely needed, so that it may cost a page of lookups.
const NODE_TIMER_MS = 10_000;
// A real node takes milliseconds for an invoice: what is asked for meanwhile does not wait for those under way.
const REAL_NODE_CALLS = 16;

/** What each kind of job does, and how many batches of it may run at once at one node. */
const STEPS: Record<JobKind, [step: Step, at_once: number]> = {
  generate: [generate, 2],
  dispatch: [dispatch, 2],
  internal: [settleInside, 2],
  expire: [expire, 1],
  track: [track, 1],
  exchange: [exchange, 1],
  chain: [broadcastStored, 1],
};

/** Builds the engine: lanes, job board and the listeners of every node. Nothing runs before `start`. */
export function createPayments({ onNode, onEvents, ...deps }: PaymentsDeps): PaymentEngine {
  const { db, clock, log, nodes } = deps;
  const jobs = new JobBoard({ db, clock, log });
  const time = createTimestamps(clock);
  const { max_batch, max_queue } = deps.config;
  const writer = createWriter({ db, time, worker: jobs.worker, max_batch, max_queue, onEvents });
  const histories = new NodeHistories(db, log);
  const engine: Engine = { ...deps, writer, jobs, histories, calls: createCalls() };
  const ways: Ways = new Map([...nodes.values()].map((node) => [node.id, wayThrough(engine, node)]));
  return {
    engine,
    begin({ payment, decided_at }) {
      const way = ways.get(payment.node_id);
      if (payment.state === 'dispatched') {
        void way?.calling.submit({ payment, decided_at });
        return;
      }
      const kind = firstJob(payment);
      if (!kind) return;
      jobs.busy([payment]);
      void way?.steps.get(kind)?.submit(payment);
    },
    async start() {
      for (const way of ways.values()) await listen(engine, way, onNode);
      await jobs.start((taken) => {
        void handle(engine, ways, taken).catch((error: unknown) => {
          log.warn({ err: error }, 'jobs taken but not read, found again by their age');
          jobs.done(taken);
        });
      });
      for (const { watch } of ways.values()) watch.start();
    },
    async stop() {
      await Promise.all([...ways.values()].map(({ watch }) => watch.stop()));
      await writer.idle();
      for (const { steps } of ways.values()) for (const lane of steps.values()) await lane.idle();
      // What a step did last may still be on its way to the database.
      await writer.idle();
      await jobs.stop();
      await histories.stop();
    },
    queueDepth: () => writer.depth(),
  };
}

/** What leads through one node: a node that hangs holds up its own payments only. */
interface Way {
  node: LightningNode;
  /** By kind of job; a newer server on the same database may have kinds that this one does not know. */
  steps: ReadonlyMap<string, Lane<Payment, void>>;
  calling: Lane<Created, void>;
  /** Reads the node's chain: one at a time, and once more for whoever asks meanwhile. */
  scan: () => Promise<void>;
  watch: ReturnType<typeof watchNode>;
}
type Ways = ReadonlyMap<string, Way>;

function wayThrough(engine: Engine, node: LightningNode): Way {
  const steps = new Map<string, Lane<Payment, void>>();
  for (const [name, [step, at_once]] of Object.entries(STEPS)) {
    const concurrency = step === generate && !node.sandbox ? REAL_NODE_CALLS : at_once;
    steps.set(name, createStep(engine, node, step, { name, concurrency }));
  }
  const scan = singleFlight(() => scanChain(engine, node));
  return { node, steps, calling: createCalling(engine, node), scan, watch: watchNode(engine, node, scan) };
}

/** Jobs that the board took: each goes to its node's lane, those of nodes that are not here back to the board. */
async function handle({ db, jobs }: Engine, ways: Ways, taken: readonly Job[]): Promise<void> {
  const known = taken.filter(({ node_id }) => ways.has(node_id));
  const rows = new Map((await readPayments(db, known)).map((payment) => [refKey(payment), payment]));
  for (const job of known) {
    const payment = rows.get(refKey(job));
    if (payment) void ways.get(job.node_id)?.steps.get(job.kind)?.submit(payment);
    else jobs.done([job]);
  }
  const unknown = taken.filter(({ node_id }) => !ways.has(node_id));
  await jobs.putBack(unknown, PAUSE_MS.long);
  jobs.done(unknown);
}

/**
 * Calls a node for sends that were made and handed over in one commit: those of one batch go in one call of the port. Their
 * job is `track`, due when an answer should have come: what is not called here is found by it.
 */
const createCalling = (engine: Engine, node: LightningNode): Lane<Created, void> =>
  createLane<Created, void>({
    max_batch: engine.config.max_batch,
    max_queue: Number.MAX_SAFE_INTEGER, // bounded by the lane of commands that feeds it
    concurrency: 1,
    run: async (created) => {
      const payments = created.map(({ payment }) => payment);
      try {
        pay(engine, node, payments, Math.min(...created.map(({ decided_at }) => decided_at)));
      } catch (error) {
        engine.log.warn({ err: error, payments: payments.length }, 'node not called, will be tried again');
        await engine.jobs.putBack(payments, PAUSE_MS.track);
      }
      return created.map(() => ({ ok: true, value: undefined }));
    },
  });

/** Runs `work` one at a time; calls that come meanwhile are answered by one more run. */
function singleFlight(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  let again: Promise<void> | null = null;
  const run = (): Promise<void> => {
    if (!running) {
      running = work().finally(() => (running = null));
      return running;
    }
    again ??= running
      .catch(() => {})
      .then(() => {
        again = null;
        return run();
      });
    return again;
  };
  return run;
}

/** Starts a node: it connects by itself, again and again, and tells what it hears. */
const listen = (engine: Engine, { node, scan, watch }: Way, onNode: PaymentsDeps['onNode']): Promise<void> =>
  node.start({
    async connected(identity) {
      // Before anything is sent: another node under this id, or one without its history, must be known by then.
      await engine.histories.connected(node, identity);
      await onNode(node);
      const [row] = await engine.db.query<{ last: bigint | null }>(
        'SELECT max(settle_index) AS last FROM payment_keys WHERE node_id = $1 AND settle_index IS NOT NULL',
        [node.id],
        'last settle index',
      );
      void watch.look();
      return { settle_index: row?.last ?? 0n };
    },
    indexSeen: (index) => engine.histories.indexSeen(node.id, index),
    settled: (invoices) => creditSettled(engine, node, invoices),
    ended: async (payment_hash, outcome) => {
      const payment = await sendOfHash(engine, node.id, payment_hash);
      if (payment) await applyOutcome(engine, node, payment, outcome);
    },
    chainChanged: scan,
  });

async function sendOfHash(
  engine: Engine,
  node_id: string,
  payment_hash: string,
): Promise<Payment | undefined> {
  const [payment] = await engine.db.query<Payment>(
    `SELECT p.* FROM payment_keys k
     JOIN payments p ON p.organization_id = k.organization_id AND p.environment_id = k.environment_id
       AND p.id = k.payment_id
     WHERE k.key = $1 AND k.kind = 'send' AND k.node_id = $2`,
    [payment_hash, node_id],
    'send of hash',
  );
  return payment;
}

/** What is looked at again and again, whether or not the node told us: history, chain, open invoices. */
function watchNode(engine: Engine, node: LightningNode, scan: () => Promise<void>) {
  let timer: NodeJS.Timeout | undefined;
  const ending = new AbortController();
  let running: Promise<void> | null = null;
  let position: PaymentRef | null = null;

  /** One page of open receives; at boot, and after each connection, all of them in turn. */
  async function compareOpen(): Promise<void> {
    const from = position;
    let at = await compareInvoices(engine, node, from ?? COMPARE_FROM_START);
    if (from === null) {
      while (at !== COMPARE_FROM_START && !ending.signal.aborted)
        at = await compareInvoices(engine, node, at);
    }
    position = at;
  }

  async function once(): Promise<void> {
    try {
      await engine.histories.compare(node);
      await scan();
      await compareOpen();
    } catch (error) {
      engine.log.warn({ err: error, node_id: node.id }, 'node not compared, will be tried again');
    }
  }

  const lookOnce = () => (running ??= once().finally(() => (running = null)));
  return {
    /** After a connection: everything may have happened meanwhile. */
    async look(): Promise<void> {
      await running;
      position = null;
      await lookOnce();
    },
    start() {
      timer = setInterval(() => {
        if (node.reachable()) void lookOnce();
      }, NODE_TIMER_MS);
    },
    async stop(): Promise<void> {
      ending.abort();
      clearInterval(timer);
      await running;
    },
  };
}
