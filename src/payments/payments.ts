import type { Logger } from 'pino';
import { createLane, type Lane } from '../core/batch.ts';
import { createTimestamps, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import type { LightningNode } from '../lightning/node.ts';
import type { Created } from './create.ts';
import { applyOutcome, broadcastStored, dispatch, pay } from './dispatch.ts';
import { exchange, type CurrentRate } from './exchange.ts';
import { createStep, later, PAUSE_MS, type Engine, type EngineConfig } from './engine.ts';
import { generate } from './generate.ts';
import { settleInside } from './inside.ts';
import { JobBoard, type Job } from './jobs.ts';
import { createCalls } from './calls.ts';
import { NodeHistories } from './history.ts';
import { COMPARE_FROM_START, compareInvoices, creditSettled, expire, track } from './recover.ts';
import { scanChain } from './scan.ts';
import { readPayments } from './store.ts';
import { isOnChain, refKey, refOf, type JobKind, type Payment, type PaymentRef } from './types.ts';
import { createWriter } from './writer.ts';

export interface PaymentsDeps {
  db: Database;
  clock: Clock;
  log: Logger;
  nodes: ReadonlyMap<string, LightningNode>;
  config: EngineConfig;
  currentRate: CurrentRate;
  /** Runs when a node has connected, before anything is sent through it, and whenever its chain changed. */
  onNode(node: LightningNode): Promise<void>;
  /** Runs after each commit that wrote events, with the highest number of them. */
  onEvents?: (last: bigint) => void;
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

const STEP_OF_STATE: Partial<Record<Payment['state'], JobKind>> = {
  generating: 'generate',
  approved: 'dispatch',
  claiming: 'internal',
};

const NODE_TIMER_MS = 10_000;
// A real node takes milliseconds for an invoice: what is asked for meanwhile does not wait for those under way.
const REAL_NODE_CALLS = 16;

/** Builds the engine: lanes, job board and the listeners of every node. Nothing runs before `start`. */
export function createPayments(deps: PaymentsDeps): PaymentEngine {
  const { db, clock, log, config, nodes, currentRate } = deps;
  const jobs = new JobBoard({ db, clock, log });
  const writer = createWriter({
    db,
    time: createTimestamps(clock),
    worker: jobs.worker,
    max_batch: config.max_batch,
    max_queue: config.max_queue,
    ...(deps.onEvents ? { onEvents: deps.onEvents } : {}),
  });
  const histories = new NodeHistories(db, log);
  const calls = createCalls();
  const engine: Engine = { db, clock, log, config, nodes, writer, jobs, histories, calls, currentRate };
  const steps = new Map([...nodes.values()].map((node) => [node.id, nodeSteps(engine, node)]));
  const calling = new Map([...nodes.keys()].map((node_id) => [node_id, createCalling(engine)]));
  const scans = new Map(
    [...nodes.values()].map((node) => [node.id, singleFlight(() => scanChain(engine, node))]),
  );

  const timer = nodeTimer(engine, scans);
  const listeners = createListeners(engine, scans, timer.look, deps.onNode);
  return {
    engine,
    begin({ payment, decided_at }) {
      if (payment.state === 'dispatched') {
        void calling.get(payment.node_id)?.submit({ payment, decided_at });
        return;
      }
      const kind = STEP_OF_STATE[payment.state];
      if (!kind) return;
      jobs.busy([refKey(payment)]);
      enter(steps, kind, payment);
    },
    async start() {
      for (const node of nodes.values()) await listeners.start(node);
      await jobs.start((taken) => {
        void handle(engine, steps, taken).catch((error: unknown) => {
          log.warn({ err: error }, 'jobs taken but not read, found again by their age');
          jobs.done(taken.map(refKey));
        });
      });
      timer.start();
    },
    async stop() {
      await timer.stop();
      await writer.idle();
      for (const lanes of steps.values()) for (const lane of Object.values(lanes)) await lane.idle();
      await writer.idle();
      await jobs.stop();
      await histories.stop();
    },
    queueDepth: () => writer.depth(),
  };
}

type Steps = ReadonlyMap<string, Record<JobKind, Lane<Payment, void>>>;

function enter(steps: Steps, kind: JobKind, payment: Payment): void {
  const lane = steps.get(payment.node_id)?.[kind];
  if (lane) void lane.submit(payment);
}

/** Jobs that the board took: each goes to its node's lane, those of nodes that are not here back to the board. */
async function handle({ db, clock, jobs }: Engine, steps: Steps, taken: readonly Job[]): Promise<void> {
  const known = taken.filter(({ node_id }) => steps.has(node_id));
  const rows = new Map((await readPayments(db, known)).map((payment) => [refKey(payment), payment]));
  for (const job of known) {
    const payment = rows.get(refKey(job));
    if (payment) enter(steps, job.kind, payment);
    else jobs.done([refKey(job)]);
  }
  const unknown = taken.filter(({ node_id }) => !steps.has(node_id));
  await jobs.putBack(unknown, new Date(clock.now() + PAUSE_MS.long).toISOString());
  jobs.done(unknown.map(refKey));
}

/** The lanes of one node: a node that hangs holds up its own payments only. */
function nodeSteps(engine: Engine, { sandbox }: LightningNode): Record<JobKind, Lane<Payment, void>> {
  return {
    generate: createStep(engine, 'generate', sandbox ? 2 : REAL_NODE_CALLS, (payments) =>
      generate(engine, payments),
    ),
    dispatch: createStep(engine, 'dispatch', 2, (payments) => dispatch(engine, payments)),
    internal: createStep(engine, 'internal', 2, (payments) => settleInside(engine, payments)),
    expire: createStep(engine, 'expire', 1, (payments) => expire(engine, payments)),
    track: createStep(engine, 'track', 1, (payments) => track(engine, payments)),
    exchange: createStep(engine, 'exchange', 1, (payments) => exchange(engine, payments)),
    chain: createStep(engine, 'chain', 1, async (payments) => {
      const [first] = payments;
      const node = first && engine.nodes.get(first.node_id);
      if (node) await broadcastStored(engine, node, payments.filter(isOnChain));
    }),
  };
}

/** Calls a node for sends that were made and handed over in one commit: those of one batch go in one call of the port. */
const createCalling = (engine: Engine): Lane<Created, void> =>
  createLane<Created, void>({
    max_batch: engine.config.max_batch,
    max_queue: Number.MAX_SAFE_INTEGER, // bounded by the lane of commands that feeds it
    concurrency: 1,
    run: async (created) => {
      const payments = created.map(({ payment }) => payment);
      try {
        pay(engine, payments, Math.min(...created.map(({ decided_at }) => decided_at)));
      } catch (error) {
        engine.log.warn({ err: error, payments: payments.length }, 'node not called, will be tried again');
        await engine.jobs.putBack(payments.map(refOf), later(engine, PAUSE_MS.track));
      }
      return created.map(() => ({ ok: true as const, value: undefined }));
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

function createListeners(
  engine: Engine,
  scans: ReadonlyMap<string, () => Promise<void>>,
  look: (node: LightningNode) => Promise<void>,
  onNode: PaymentsDeps['onNode'],
) {
  const lastSettled = async (node_id: string): Promise<bigint> => {
    const [row] = await engine.db.query<{ last: bigint | null }>(
      'SELECT max(settle_index) AS last FROM payment_keys WHERE node_id = $1 AND settle_index IS NOT NULL',
      [node_id],
      'last settle index',
    );
    return row?.last ?? 0n;
  };
  return {
    start: (node: LightningNode): Promise<void> =>
      node.start({
        async connected(identity) {
          await engine.histories.connected(node, identity);
          await onNode(node);
          const settle_index = await lastSettled(node.id);
          void look(node);
          return { settle_index };
        },
        indexSeen: (index) => engine.histories.indexSeen(node.id, index),
        settled: (invoices) => creditSettled(engine, node, invoices),
        ended: async (payment_hash, outcome) => {
          const payment = await sendOfHash(engine, node.id, payment_hash);
          if (payment) await applyOutcome(engine, payment, outcome);
        },
        chainChanged: async () => scans.get(node.id)?.(),
      }),
  };
}

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

/** What is looked at again and again, whether or not a node told us: history, chain, open invoices. */
function nodeTimer(engine: Engine, scans: ReadonlyMap<string, () => Promise<void>>) {
  let timer: NodeJS.Timeout | null = null;
  const stopping = new AbortController();
  const ending = stopping.signal;
  const running = new Map<string, Promise<void>>();
  const positions = new Map<string, PaymentRef>();

  /** One page of open receives; at boot, and after each connection, all of them in turn. */
  async function compareInvoicesOf(node: LightningNode): Promise<void> {
    const from = positions.get(node.id);
    let at = await compareInvoices(engine, node, from ?? COMPARE_FROM_START);
    if (from === undefined) {
      while (at !== COMPARE_FROM_START && !ending.aborted) at = await compareInvoices(engine, node, at);
    }
    positions.set(node.id, at);
  }

  async function once(node: LightningNode): Promise<void> {
    try {
      await engine.histories.compare(node);
      await scans.get(node.id)?.();
      await compareInvoicesOf(node);
    } catch (error) {
      engine.log.warn({ err: error, node_id: node.id }, 'node not compared, will be tried again');
    }
  }

  /** A node that hangs is waited for by itself; the others are looked at all the same. */
  const lookOnce = (node: LightningNode): Promise<void> => {
    const known = running.get(node.id);
    if (known) return known;
    const work = once(node).finally(() => running.delete(node.id));
    running.set(node.id, work);
    return work;
  };
  return {
    /** After a connection: everything may have happened meanwhile. */
    async look(node: LightningNode): Promise<void> {
      await running.get(node.id);
      positions.delete(node.id);
      await lookOnce(node);
    },
    start() {
      timer = setInterval(() => {
        for (const node of engine.nodes.values()) if (node.reachable()) void lookOnce(node);
      }, NODE_TIMER_MS);
    },
    async stop() {
      stopping.abort();
      if (timer) clearInterval(timer);
      await Promise.all(running.values());
    },
  };
}
