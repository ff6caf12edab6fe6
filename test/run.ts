import { spawn } from 'node:child_process';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startSharedCluster } from './database.ts';
import { runFiles, type Totals } from './pool.ts';
import { buildTools } from './regtest/build.ts';
import type { NetworkTemplate } from './regtest/network.ts';

// The one command of the whole suite: static checks, and beside them every test file against one PostgreSQL.
const CHECKS: [name: string, command: string, args: string[]][] = [
  ['types', 'tsc', ['--noEmit']],
  ['lint', 'oxlint', ['--type-aware', '--deny-warnings']],
  ['formatting', 'prettier', ['--check', '--log-level', 'warn', '.']],
  ['dead code', 'knip', ['--no-progress']],
];
/** The files that take longest, in this order: they begin first, so that none of them is alone at the end. */
const LONGEST = [
  'test/regtest/faults.test.ts',
  'test/regtest/crash.test.ts',
  'test/chaos/chaos.test.ts',
  'test/regtest/books.test.ts',
  'test/regtest/kill.test.ts',
  'test/regtest/database.test.ts',
  'test/regtest/rails.test.ts',
  'test/counts.test.ts',
  'test/faults.test.ts',
  'test/stream.test.ts',
  'test/start.test.ts',
  'test/checks.test.ts',
  'test/audit.test.ts',
];
const say = (line: string): void => void process.stdout.write(`${line}\n`);

function passes(name: string, command: string, args: string[]): Promise<boolean> {
  return new Promise((done) => {
    const child = spawn(`node_modules/.bin/${command}`, args, { stdio: 'inherit' });
    child.on('error', () => done(false));
    child.on('exit', (code) => {
      say(`${code === 0 ? '✔' : '✖'} ${name}`);
      done(code === 0);
    });
  });
}

/** How many of the checks failed. */
async function runChecks(): Promise<number> {
  let failed = 0;
  for (const [name, command, args] of CHECKS) if (!(await passes(name, command, args))) failed += 1;
  return failed;
}

/**
 * The network that those of the tests are copies of. Null where there is none: where its programs are missing, the
 * tests are skipped and say why; where it did not start, each tries for itself.
 */
async function openNetwork(): Promise<NetworkTemplate | null> {
  say('programs of the regtest network: built once, some minutes');
  const built = await buildTools();
  say('missing' in built ? `✖ ${built.missing}` : '✔ programs of the regtest network');
  if ('missing' in built) return null;
  // Not read before: it looks for the programs, too.
  const { prepareNetwork } = await import('./regtest/network.ts');
  const network = await prepareNetwork().catch((error: Error) => {
    say(`✖ regtest network: ${error.message}`);
    return null;
  });
  if (network) process.env['COULOMB_TEST_NETWORK'] = network.folder;
  return network;
}

/** Where a file stands in the order. */
function rankOf(file: string): number {
  const place = LONGEST.indexOf(file);
  return place < 0 ? LONGEST.length : place;
}

async function runTests(given: readonly string[]): Promise<Totals> {
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  // Every test file and every server that one starts reads the same sources: they are compiled once.
  const compiled = mkdtempSync(join(tmpdir(), 'coulomb-compiled-'));
  process.env['NODE_COMPILE_CACHE'] = compiled;
  const cluster = await startSharedCluster();
  process.env['COULOMB_TEST_CLUSTER'] = cluster.url;
  const files = given.toSorted((a, b) => rankOf(a) - rankOf(b) || a.localeCompare(b));
  const later = files.filter((file) => /test\/(regtest|chaos)\//.test(file));
  const network = later.length > 0 ? openNetwork() : Promise.resolve(null);
  try {
    await runFiles(
      files.filter((file) => !later.includes(file)),
      { files: later, need: network },
      totals,
    );
  } finally {
    await (await network)?.remove();
    await cluster.stop();
    rmSync(compiled, { recursive: true, force: true });
  }
  return totals;
}

const given = process.argv.slice(2);
const whole = given.length === 0;
const files = whole ? globSync(['src/**/*.test.ts', 'test/**/*.test.ts']) : given;
const [broken, totals] = await Promise.all([whole ? runChecks() : 0, runTests(files)]);
const passed = totals.passed + (whole ? CHECKS.length - broken : 0);
const failed = totals.failed + broken;
if (totals.skipped > 0) say(`${totals.skipped} skipped, each for the reason above`);
say(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && totals.passed > 0 ? 0 : 1);
