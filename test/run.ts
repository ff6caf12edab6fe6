import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { startCluster } from './database.ts';
import { buildTools } from './regtest/build.ts';

// The one command of the whole suite: static checks, then every test file against one PostgreSQL.
const CHECKS: [name: string, command: string, args: string[]][] = [
  ['types', 'tsc', ['--noEmit']],
  ['lint', 'oxlint', ['--type-aware', '--deny-warnings']],
  ['formatting', 'prettier', ['--check', '--log-level', 'warn', '.']],
  ['dead code', 'knip', ['--no-progress']],
];
// Two cores: more files at once only wait for each other.
const FILES_AT_ONCE = 2;

function passes(name: string, command: string, args: string[]): Promise<boolean> {
  return new Promise((done) => {
    const child = spawn(`node_modules/.bin/${command}`, args, { stdio: 'inherit' });
    child.on('error', () => done(false));
    child.on('exit', (code) => {
      process.stdout.write(`${code === 0 ? '✔' : '✖'} ${name}\n`);
      done(code === 0);
    });
  });
}

async function runFiles(files: string[]): Promise<{ passed: number; failed: number; skipped: number }> {
  const cluster = await startCluster();
  process.env['COULOMB_TEST_CLUSTER'] = cluster.url;
  const totals = { passed: 0, failed: 0, skipped: 0 };
  try {
    const events = run({
      files,
      concurrency: FILES_AT_ONCE,
      // A connection that a test left to a node that is gone must not keep its process.
      execArgv: ['--disable-warning=ExperimentalWarning', '--test-force-exit'],
    });
    events.on('test:pass', ({ skip, details }) => {
      if (details.type === 'suite') return;
      // A test that was skipped has shown nothing; where the result decides, that is a failure.
      if (skip === undefined) totals.passed += 1;
      else if (process.env['CI'] !== undefined) totals.failed += 1;
      else totals.skipped += 1;
    });
    events.on('test:fail', () => (totals.failed += 1));
    const printed = events.compose(spec);
    printed.pipe(process.stdout);
    await new Promise((done, fail) => {
      printed.on('end', done);
      printed.on('error', fail);
    });
  } finally {
    await cluster.stop();
  }
  return totals;
}

const given = process.argv.slice(2);
let passed = 0;
let failed = 0;
if (given.length === 0) {
  for (const [name, command, args] of CHECKS) {
    if (await passes(name, command, args)) passed += 1;
    else failed += 1;
  }
}
const files = given.length > 0 ? given : globSync(['src/**/*.test.ts', 'test/**/*.test.ts']).sort();
// Built before the tests, which have bounds on their time; where it cannot be, they are skipped and say why.
if (files.some((file) => file.includes('regtest'))) {
  process.stdout.write('programs of the regtest network: built once, some minutes\n');
  const built = await buildTools();
  process.stdout.write('missing' in built ? `✖ ${built.missing}\n` : '✔ programs of the regtest network\n');
}
const totals = await runFiles(files);
passed += totals.passed;
failed += totals.failed;
if (totals.skipped > 0) process.stdout.write(`${totals.skipped} skipped, each for the reason above\n`);
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exit(failed === 0 && totals.passed > 0 ? 0 : 1);
