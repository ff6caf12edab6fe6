import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { generated } from './house/generated.ts';
import { longFunctions, measure } from './house/measure.ts';
import { arrowsOf, roomOf, SLICES } from './house/rooms.ts';
import { readSources } from './house/source.ts';
import { sharedNames } from './house/statements.ts';
import { testedThreats, THREATS } from './house/threats.ts';

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => path !== '');
const sources = readSources('src');
const figures = measure('src', sources);

/** What src/ is held to; `npm run measure` prints the figures and says how they are counted. */
const LIMITS = {
  file_lines: 400,
  function_lines: 70,
  median_function_lines: 10,
  ninetieth_function_lines: 40,
  comment_share: { least: 0.08, most: 0.25 },
};

/** The few arrows between slices: a payment uses up a quote and obeys its wallet's policies. */
const NEIGHBOURS: Record<string, string[]> = { payments: ['quotes', 'policies'] };
/** Which rooms each room may open; a room always may use itself. */
const ARROWS: Record<string, string[]> = {
  core: [],
  ledger: ['core'],
  lightning: ['core'],
  ...Object.fromEntries(
    SLICES.map((slice) => [slice, ['core', 'ledger', 'lightning', ...(NEIGHBOURS[slice] ?? [])]]),
  ),
  // The operator's commands make and change what the slices store.
  admin: ['core', 'ledger', 'lightning', ...SLICES],
  'app.ts': ['core', 'operations.ts', 'openapi.ts'],
  'operations.ts': ['core', 'app.ts'],
  'openapi.ts': ['core'],
  'config.ts': ['core', 'lightning', 'quotes'],
  'gauges.ts': ['core', 'ledger', 'lightning', 'nodes', 'payments', 'quotes'],
  'server.ts': ['app.ts', 'gauges.ts', 'config.ts', 'core', 'ledger', 'lightning', ...SLICES],
  'main.ts': ['server.ts', 'admin', 'config.ts', 'core'],
};

test('every import follows the arrows of the house', () => {
  for (const { path } of sources) {
    assert.ok(ARROWS[roomOf('src', path)], `${path} stands in a room that the house does not know`);
  }
  for (const { from, to } of arrowsOf('src', sources)) {
    assert.ok(ARROWS[from]?.includes(to), `${from} must not import ${to}`);
  }
});

test('no file imports itself over others, types aside', () => {
  assert.deepEqual(figures.circles, []);
});

test('files and functions are as short as the house wants them, and comments say why', () => {
  const { files, functions, comment_share } = figures;
  assert.ok(files.longest <= LIMITS.file_lines, `${files.longest_path} has ${files.longest} lines`);
  assert.deepEqual(longFunctions(sources, LIMITS.function_lines), []);
  assert.ok(functions.median <= LIMITS.median_function_lines, `median of functions: ${functions.median}`);
  assert.ok(
    functions.ninetieth <= LIMITS.ninetieth_function_lines,
    `90th percentile of functions: ${functions.ninetieth}`,
  );
  const { least, most } = LIMITS.comment_share;
  assert.ok(comment_share >= least && comment_share <= most, `share of comments: ${comment_share}`);
});

test('what others build on says what it gives: core, ledger and the port to nodes', () => {
  const built_on = sources.filter(({ path }) => /^src\/(?:core\/|ledger\/|lightning\/node\.ts)/.test(path));
  const silent = built_on.flatMap(({ path, undocumented }) => undocumented.map((name) => `${path} ${name}`));
  assert.deepEqual(silent, []);
});

test('what documents say of the sources is what the sources say', async () => {
  for (const { path, is, must_be } of await generated()) {
    assert.equal(is, must_be, `${path} differs from the sources: npm run docs`);
  }
});

test('each prepared statement has a name of its own', () => assert.deepEqual(sharedNames(), []));

test('every file that a document names is there', () => {
  for (const path of ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md']) {
    const text = readFileSync(path, 'utf8');
    for (const [, name = ''] of text.matchAll(/`((?:[\w-]+\/)*[\w.-]+\.(?:ts|sql|md))`/g)) {
      const found = tracked.some((file) => file === name || file.endsWith(`/${name}`));
      assert.ok(found, `${path} names ${name}`);
    }
  }
});

test('every threat has a test whose name carries its number', () => {
  const known = Object.keys(THREATS).map(Number);
  const by_number = (a: number, b: number): number => a - b;
  assert.deepEqual([...testedThreats()].sort(by_number), known);
});

test('no tracked file names a place outside the project', () => {
  // Written so that this file does not contain what it looks for.
  const forbidden = [
    ['..', 'shared'].join('/'),
    ['', 'work', 'main'].join('/'),
    ['registry', 'npmjs', 'org'].join('.'),
    ['proxy', 'golang', 'org'].join('.'),
  ];
  for (const path of tracked) {
    if (path.endsWith('.png')) continue;
    const text = readFileSync(path, 'utf8');
    for (const word of forbidden) assert.ok(!text.includes(word), `${path} mentions ${word}`);
  }
});

test('threat 8: no lock outlives its transaction or connection, and none expires', () => {
  for (const { path } of sources) {
    const text = readFileSync(path, 'utf8');
    assert.doesNotMatch(text, /redlock|setnx|lock_expires|lease_until/i, path);
  }
});
