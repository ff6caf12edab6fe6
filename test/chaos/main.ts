import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { runChaos } from './chaos.ts';

// npm run chaos -- --seed N --minutes M: a deployment on a real network, loaded and broken at random.
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const { values } = parseArgs({
  options: { seed: { type: 'string' }, minutes: { type: 'string', default: '10' } },
});
const seed = Number(values.seed ?? randomInt(1_000_000));
say(`seed ${seed}, ${values.minutes} minutes`);
const table = (title: string, counts: ReadonlyMap<string, number>): void => {
  say(`\n${title}`);
  for (const [name, count] of [...counts].sort(([a], [b]) => a.localeCompare(b)))
    say(`${String(count).padStart(7)}  ${name}`);
};
try {
  const report = await runChaos({ seed, seconds: Number(values.minutes) * 60, say });
  table('broken', report.faults);
  table('payments', report.ends);
  say(`\n${report.payments} payments tried, ${report.given_up} steps given up by the clients`);
  say(
    `${report.by_hand} sends ended by the operator, in flight at the node for ever and in none of its channels`,
  );
  say(`drift ${report.drift} msats, audit clean: every payment is what node and payee say it is`);
} catch (error) {
  say(`seed ${seed} failed: ${(error as Error).stack}`);
  process.exitCode = 1;
}
process.exit();
