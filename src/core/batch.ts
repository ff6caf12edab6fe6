/**
 * The unit of writing: commands that arrive while a batch is under way form the next one
 * (group commit). Every lane is bounded; a full one refuses at once instead of growing.
 */
export interface Lane<Command, Result> {
  /** Joins the next batch; settles after that batch's commit, or with the error that refused it. */
  submit(command: Command): Promise<Result>;
  /** Commands waiting for their batch. */
  depth(): number;
  /** Resolves when nothing waits and nothing runs. */
  idle(): Promise<void>;
}

/** What a batch says of one command: its result, or the error that refuses only this one. */
export type Verdict<Result> = { ok: true; value: Result } | { ok: false; error: unknown };

/** How a lane runs, and what it does with a batch. */
export interface LaneOptions<Command, Result> {
  max_batch: number;
  max_queue: number;
  /** Batches that may run at once; 1 keeps strict order of arrival. */
  concurrency: number;
  /** Decides and writes one batch; answers in the order of the commands. Throwing refuses all of them. */
  run(commands: readonly Command[]): Promise<readonly Verdict<Result>[]>;
}

/** Thrown by `submit` on a full lane. */
export class LaneFull extends Error {}

interface Waiting<Command, Result> {
  command: Command;
  resolve(value: Result): void;
  reject(error: unknown): void;
}

/**
 * A lane over `run`. `submit` rejects with `LaneFull` when `max_queue` commands wait; with the error of `run` when that
 * throws, for every command of its batch; with its own error for a command that the batch refused.
 */
export function createLane<Command, Result>(options: LaneOptions<Command, Result>): Lane<Command, Result> {
  let queue: Waiting<Command, Result>[] = [];
  let running = 0;
  let scheduled = false;
  let idlers: (() => void)[] = [];

  async function runBatch(batch: Waiting<Command, Result>[]): Promise<void> {
    try {
      const verdicts = await options.run(batch.map((waiting) => waiting.command));
      batch.forEach((waiting, index) => {
        const verdict = verdicts[index];
        if (verdict?.ok) waiting.resolve(verdict.value);
        else waiting.reject(verdict ? verdict.error : new Error('batch gave no verdict for a command'));
      });
    } catch (error) {
      for (const waiting of batch) waiting.reject(error);
    }
  }

  function pump(): void {
    scheduled = false;
    while (queue.length > 0 && running < options.concurrency) {
      const batch = queue.slice(0, options.max_batch);
      queue = queue.slice(batch.length);
      running += 1;
      void runBatch(batch).then(() => {
        running -= 1;
        pump();
      });
    }
    if (queue.length === 0 && running === 0) {
      for (const wake of idlers) wake();
      idlers = [];
    }
  }

  return {
    submit(command) {
      if (queue.length >= options.max_queue) return Promise.reject(new LaneFull('too many commands waiting'));
      return new Promise((resolve, reject) => {
        queue.push({ command, resolve, reject });
        // Requests read from the sockets in this turn of the event loop share a batch.
        if (!scheduled && running < options.concurrency) {
          scheduled = true;
          setImmediate(pump);
        }
      });
    },
    depth: () => queue.length,
    idle: () =>
      queue.length === 0 && running === 0
        ? Promise.resolve()
        : new Promise((resolve) => idlers.push(resolve)),
  };
}
