import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => path !== '');
const sources = tracked.filter(
  (path) => path.startsWith('src/') && path.endsWith('.ts') && !path.endsWith('.test.ts'),
);

/** The files of ours that a file imports. */
function importsOf(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  return [...text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(([, to]) =>
    normalize(join(dirname(path), to ?? '')),
  );
}

const SLICES = ['wallets', 'payments', 'quotes', 'policies', 'credit', 'sandbox', 'nodes', 'webhooks'];
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
const roomOf = (path: string): string => path.split('/')[1] ?? '';

test('every import follows the arrows of the house', () => {
  for (const path of sources) {
    const room = roomOf(path);
    const allowed = ARROWS[room];
    assert.ok(allowed, `${path} stands in a room that the house does not know`);
    for (const target of importsOf(path)) {
      if (!target.startsWith('src/')) continue;
      const to = roomOf(target);
      assert.ok(to === room || allowed.includes(to), `${path} must not import ${target}`);
    }
  }
});

test('no file imports itself over others, types aside', () => {
  const withoutTypes = (path: string): string[] => {
    const text = readFileSync(path, 'utf8');
    return [...text.matchAll(/^import (?!type\b)[^;]*?from '(\.[^']+)'/gms)].map(([, to]) =>
      normalize(join(dirname(path), to ?? '')),
    );
  };
  const done = new Set<string>();
  const visit = (path: string, above: string[]): void => {
    assert.ok(!above.includes(path), `circle: ${[...above, path].join(' -> ')}`);
    if (done.has(path) || !sources.includes(path)) return;
    for (const next of withoutTypes(path)) visit(next, [...above, path]);
    done.add(path);
  };
  for (const path of sources) visit(path, []);
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
  for (const path of sources) {
    const text = readFileSync(path, 'utf8');
    assert.doesNotMatch(text, /redlock|setnx|lock_expires|lease_until/i, path);
  }
});
