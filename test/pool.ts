import { availableParallelism } from 'node:os';
import { run } from 'node:test';
import { spec, type TestEvent } from 'node:test/reporters';

export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

// Most files wait for nodes and timers half of their time. On two cores eight at once were no faster (295 s
// against 287), and starved each other now and then: a wait of a minute was not always enough.
const FILES_AT_ONCE = Math.min(6, 3 * availableParallelism());

function count(event: TestEvent, totals: Totals): void {
  if (event.type === 'test:fail') totals.failed += 1;
  if (event.type !== 'test:pass' || event.data.details.type === 'suite') return;
  // A test that was skipped has shown nothing; where the result decides, that is a failure.
  if (event.data.skip === undefined) totals.passed += 1;
  else if (process.env['CI'] !== undefined) totals.failed += 1;
  else totals.skipped += 1;
}

/** Runs one file in a process of its own; what it says is printed when it is over. */
async function runFile(file: string, totals: Totals): Promise<void> {
  const began = performance.now();
  const report = new spec();
  const printed = report.toArray();
  // A connection that a test left to a node that is gone must not keep its process.
  const execArgv = ['--disable-warning=ExperimentalWarning', '--test-force-exit'];
  for await (const event of run({ files: [file], execArgv })) {
    count(event, totals);
    // What belongs to no file is the counts of this one, which are added up for the whole run.
    if (event.type !== 'test:diagnostic' || event.data.file !== undefined) report.write(event);
  }
  report.end();
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  process.stdout.write(`\n${file} (${seconds} s)\n${(await printed).join('')}`);
}

export interface Later {
  files: readonly string[];
  /** They begin once this is there. */
  need: Promise<unknown>;
}

/** Runs files, several at once, in the given order; those that have to wait come first as soon as they can. */
export async function runFiles(files: readonly string[], later: Later, totals: Totals): Promise<void> {
  const [now, waiting] = [[...files], [...later.files]];
  let ready = false;
  const need = later.need.then(() => (ready = true));
  async function work(): Promise<void> {
    for (;;) {
      if (now.length === 0 && waiting.length > 0) await need;
      const file = (ready ? waiting.shift() : undefined) ?? now.shift();
      if (file !== undefined) await runFile(file, totals);
      else if (waiting.length === 0) return;
    }
  }
  // Half of them leave the cores to what is waited for.
  const lanes = Array.from({ length: FILES_AT_ONCE }, (_, lane) =>
    lane % 2 === 0 ? work() : need.then(work),
  );
  await Promise.all(lanes);
}
