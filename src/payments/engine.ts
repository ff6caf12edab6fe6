import type { Logger } from 'pino';
import { createLane, type Lane } from '../core/batch.ts';
import { timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import type { LightningNode } from '../lightning/node.ts';
import type { Calls } from './calls.ts';
import type { CurrentRate } from './exchange.ts';
import type { NodeHistories } from './history.ts';
import type { JobBoard } from './jobs.ts';
import { refKey, refOf, type Payment, type PaymentRef } from './types.ts';
import { Superseded, type Writer } from './writer.ts';

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
  currentRate: CurrentRate;
}

/** Pauses before something is tried again, in ms. A node that is away is asked at most every 10 s. */
export const PAUSE_MS = { retry: 2000, track: 5000, long: 10_000, broadcast: 60_000 } as const;

/** The time `pause_ms` from now, as a job's run_at. */
export const later = (engine: Engine, pause_ms: number): string => timeText(engine.clock.now() + pause_ms);

/** The node of a payment; throws for one that this server is not configured for. */
export function nodeOf(engine: Engine, node_id: string): LightningNode {
  const node = engine.nodes.get(node_id);
  if (!node) throw new Error(`node ${node_id} is not configured on this server`);
  return node;
}

/**
 * A lane that moves the payments of one node in batches. Whatever it throws for a payment puts that
 * payment's job back, to be taken again after a pause: nothing is lost, nothing is guessed.
 */
export function createStep(
  engine: Engine,
  name: string,
  concurrency: number,
  run: (payments: readonly Payment[]) => Promise<void>,
): Lane<Payment, void> {
  return createLane<Payment, void>({
    max_batch: engine.config.max_batch,
    max_queue: Number.MAX_SAFE_INTEGER, // bounded by the lane of commands that feeds it
    concurrency,
    run: async (payments) => {
      try {
        await run(payments);
      } catch (error) {
        engine.log.warn(
          { err: error, step: name, payments: payments.length },
          'step failed, will be tried again',
        );
        await engine.jobs.putBack(payments.map(refOf), later(engine, PAUSE_MS.retry));
      }
      engine.jobs.done(payments.map(refKey));
      return payments.map(() => ({ ok: true as const, value: undefined }));
    },
  });
}

/**
 * Runs one command of a step. Someone else having been first is fine; any other failure puts the
 * payment's job back.
 */
export async function attempt<R>(engine: Engine, ref: PaymentRef, work: Promise<R>): Promise<R | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Superseded) return undefined;
    engine.log.warn({ err: error, payment_id: ref.id }, 'payment not moved, will be tried again');
    await engine.jobs.putBack([refOf(ref)], later(engine, PAUSE_MS.retry));
    return undefined;
  }
}
