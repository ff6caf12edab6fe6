import { createLane, type Lane, type Verdict } from '../core/batch.ts';
import { ApiError } from '../core/errors.ts';
import { sqlState, type Database } from '../core/db.ts';
import { Work, type Command } from './work.ts';

// Group commit (docs/decisions/0001): what arrives while a batch runs is the next one. Every change of a payment or of a
// balance goes through here, so that locks are taken in one order and each step's rows, events and job are one commit.

/** Thrown by a command's rule when the payment is not where the command expected it: someone was first. */
export class Superseded extends Error {}

export interface WriterOptions {
  db: Database;
  time: () => string;
  /** Number of this process's advisory lock; its jobs carry it. */
  worker: number;
  max_batch: number;
  max_queue: number;
  /** Runs after the commit of a batch that wrote events, with the highest number of them. */
  onEvents?(last: bigint): void;
}

export interface Writer {
  /** Makes payments and their holds. */
  create<R>(command: Command<R>): Promise<R>;
  /** Moves payments that exist; settles, credits and releases. */
  advance<R>(command: Command<R>): Promise<R>;
  depth(): number;
  idle(): Promise<void>;
}

// Another writer was in the way (deadlock, serialization, a key taken in between): nothing was written.
const RETRY = new Set(['40P01', '40001', '23505', '55P03']);
const MAX_TRIES = 4;
// The two lanes are in the database at once; row locks keep them apart. A second batch of one lane would often wait for the
// wallets of the first, with commands that could have been in one batch with those that come next.
const LANE_WIDTH = 1;

/** Opens the lanes through which every change of a payment or balance goes, whoever asks for it. */
export function createWriter(options: WriterOptions): Writer {
  async function attempt(commands: readonly Command<unknown>[]): Promise<Verdict<unknown>[]> {
    let last_event = 0n;
    const verdicts = await options.db.transaction(async (sql) => {
      const work = new Work(options.time, options.worker);
      await work.load(sql, commands);
      const decided = commands.map((command) => decide(work, command));
      await sql.finish((last) => work.flush(last));
      last_event = work.last_event;
      return decided;
    });
    // Only after the commit: a reader that is woken before it would find nothing.
    if (last_event > 0n) options.onEvents?.(last_event);
    return verdicts;
  }

  async function run(commands: readonly Command<unknown>[], tries = 1): Promise<Verdict<unknown>[]> {
    try {
      return await attempt(commands);
    } catch (error) {
      const state = sqlState(error);
      if (state !== undefined && RETRY.has(state) && tries < MAX_TRIES) return run(commands, tries + 1);
      // A fault of one command must not refuse the others: each gets its own transaction.
      if (commands.length === 1 || (state === undefined && !(error instanceof BrokenRule))) throw error;
      const verdicts: Verdict<unknown>[] = [];
      for (const command of commands) {
        verdicts.push(
          ...(await run([command]).catch((fault: unknown) => [{ ok: false as const, error: fault }])),
        );
      }
      return verdicts;
    }
  }

  const lane = (): Lane<Command<unknown>, unknown> =>
    createLane({ max_batch: options.max_batch, max_queue: options.max_queue, concurrency: LANE_WIDTH, run });
  const creating = lane();
  const advancing = lane();
  return {
    create: <R>(command: Command<R>) => creating.submit(command) as Promise<R>,
    advance: <R>(command: Command<R>) => advancing.submit(command) as Promise<R>,
    depth: () => creating.depth() + advancing.depth(),
    idle: async () => {
      await creating.idle();
      await advancing.idle();
    },
  };
}

/** A rule broke after it may have changed the work: the whole batch is thrown away. */
class BrokenRule extends Error {}

function decide(work: Work, command: Command<unknown>): Verdict<unknown> {
  try {
    return { ok: true, value: command.decide(work) };
  } catch (error) {
    if (error instanceof ApiError || error instanceof Superseded) return { ok: false, error };
    throw new BrokenRule(`a rule broke: ${(error as Error).message}`, { cause: error });
  }
}
