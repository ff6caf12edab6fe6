import { relative } from 'node:path';
import type { Source } from './source.ts';

/** The vertical slices of src/: they do not know one another, but for the arrows that tidy.test.ts names. */
export const SLICES = ['wallets', 'payments', 'quotes', 'policies', 'credit', 'sandbox', 'nodes', 'webhooks'];

export interface Arrow {
  from: string;
  to: string;
  /** No import behind it is there at run time. */
  types_only: boolean;
}

/** The folder below `root` in which a file stands, or the file itself where it stands in none. */
export const roomOf = (root: string, path: string): string => relative(root, path).split('/')[0] ?? '';

/** Which rooms import which, each arrow once, by name. */
export function arrowsOf(root: string, sources: readonly Source[]): Arrow[] {
  const arrows = new Map<string, Arrow>();
  for (const { path, imports } of sources) {
    const from = roomOf(root, path);
    for (const { path: target, types_only } of imports) {
      const to = roomOf(root, target);
      if (from === to) continue;
      const known = arrows.get(`${from} ${to}`);
      arrows.set(`${from} ${to}`, { from, to, types_only: types_only && known?.types_only !== false });
    }
  }
  return [...arrows.values()].sort((a, b) => a.from.localeCompare(b.from) || a.to.localeCompare(b.to));
}

/** Groups of files each of which imports itself over the others, types aside. */
export function circlesOf(sources: readonly Source[]): string[][] {
  const imported = new Map(
    sources.map(({ path, imports }) => [
      path,
      imports.filter(({ types_only }) => !types_only).map((each) => each.path),
    ]),
  );
  const reached = new Map<string, Set<string>>();
  for (const { path } of sources) {
    const seen = new Set<string>();
    const open = [path];
    for (let from = open.pop(); from !== undefined; from = open.pop()) {
      for (const to of imported.get(from) ?? []) {
        if (!seen.has(to)) open.push(to);
        seen.add(to);
      }
    }
    reached.set(path, seen);
  }
  const circles = new Map<string, string[]>();
  for (const [path, to] of reached) {
    if (!to.has(path)) continue;
    const circle = [...to].filter((other) => reached.get(other)?.has(path)).sort();
    circles.set(circle.join(), circle);
  }
  return [...circles.values()];
}
