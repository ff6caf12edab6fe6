import type { Logger } from 'pino';
import { createLane, type Lane } from '../core/batch.ts';
import { timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import type { LightningNode } from '../lightning/node.ts';
import type { Market, RateScope } from '../quotes/rates.ts';
import type { Calls } from './calls.ts';
import type { NodeHistories } from './history.ts';
import type { JobBoard } from './jobs.ts';
import type { Payment, PaymentRef } from './types.ts';
import type { Command } from './work.ts';
import { Superseded, type Writer } from './writer.ts';

// What the steps of a payment (`generate.ts`, `dispatch.ts`, `recover.ts`, ...) have in common: what they work with, how
// their batches run, and how each hands its decision to the writer. No step may end a payment because something broke.

export interface EngineConfig {
  max_batch: number;
  max_queue: number;
  /** Confirmations at which money from or to the chain counts, per network. */
  confirmations: Readonly<Record<string, number>>;
}

/** What every part of the engine works with; made once in payments.ts. */
export interface Engine {
  db: Database;
  clock: Clock;
  log: Logger;
  config: EngineConfig;
  nodes: ReadonlyMap<string, LightningNode>;
  writer: Writer;
  jobs: JobBoard;
  histories: NodeHistories;
  calls: Calls;
  /** The market's rate now; null while there is none. */
  currentRate(scope: RateScope): Promise<Market | null>;
}

/**
 * What one kind of job does for the payments of a node that are due, a batch of them: they may have moved on since their
 * job was made, which the commands find out under the payments' locks.
 */
export type Step = (engine: Engine, node: LightningNode, payments: readonly Payment[]) => Promise<void>;

/** Pauses before something is tried again, in ms. A node that is away is asked at most every 10 s. */
export const PAUSE_MS = { retry: 2000, track: 5000, long: 10_000, broadcast: 60_000 } as const;

/** The time `pause_ms` from now, as a job's run_at. */
export const later = (engine: Engine, pause_ms: number): string => timeText(engine.clock.now() + pause_ms);

/** Confirmations at which money on this node's chain counts. */
export const confirmationsOn = ({ config }: Engine, node: LightningNode): number =>
  config.confirmations[node.network] ?? 1;

/**
 * A lane that moves the payments of one node in batches. Whatever it throws for a payment puts that
 * payment's job back, to be taken again after a pause: nothing is lost, nothing is guessed.
 */
export function createStep(
  engine: Engine,
  node: LightningNode,
  step: Step,
  { name, concurrency }: { name: string; concurrency: number },
): Lane<Payment, void> {
  return createLane<Payment, void>({
    max_batch: engine.config.max_batch,
    max_queue: Number.MAX_SAFE_INTEGER, // bounded by the lane of commands that feeds it
    concurrency,
    run: async (payments) => {
      try {
        await step(engine, node, payments);
      } catch (error) {
        engine.log.warn(
          { err: error, step: name, payments: payments.length },
          'step failed, will be tried again',
        );
        await engine.jobs.putBack(payments, PAUSE_MS.retry);
      }
      engine.jobs.done(payments);
      return payments.map(() => ({ ok: true, value: undefined }));
    },
  });
}

/**
 * Runs the command of a step that moves this payment. Someone else having been first is fine; any other failure puts
 * the payment's job back.
 */
export async function advance<R>(
  engine: Engine,
  ref: PaymentRef,
  command: Command<R>,
): Promise<R | undefined> {
  try {
    return await engine.writer.advance(command);
  } catch (error) {
    if (error instanceof Superseded) return undefined;
    engine.log.warn({ err: error, payment_id: ref.id }, 'payment not moved, will be tried again');
    await engine.jobs.putBack([ref], PAUSE_MS.retry);
    return undefined;
  }
}

/** The same for several, each with its own command; answers what those that were moved answer. */
export async function advanceAll<R>(
  engine: Engine,
  payments: readonly Payment[],
  commandOf: (payment: Payment) => Command<R>,
): Promise<R[]> {
  const moved = await Promise.all(payments.map((payment) => advance(engine, payment, commandOf(payment))));
  return moved.filter((result) => result !== undefined);
}
