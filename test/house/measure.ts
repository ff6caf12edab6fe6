import { arrowsOf, circlesOf, SLICES } from './rooms.ts';
import type { FunctionSize, Source } from './source.ts';

export interface Figures {
  files: { count: number; lines: number; median: number; longest: number; longest_path: string };
  functions: { count: number; median: number; ninetieth: number; longest: number };
  comment_share: number;
  circles: string[][];
  /** Between rooms, and of those between slices: `payments -> quotes`. */
  arrows: { rooms: number; slices: string[] };
  /** Exported names that one other file imports, and how many names are exported at all. */
  used_once: { count: number; of: number };
}

/** From here on a function is listed by name, and not wanted. */
export const LONG = 70;

/** The value that a share of all values does not exceed; 0 of none. */
function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** How often each export of each file is imported elsewhere: once by each file that does. */
function usesOf(sources: readonly Source[]): number[] {
  const users = new Map(
    sources.flatMap(({ path, exports }) => exports.map((name) => [`${path} ${name}`, new Set<string>()])),
  );
  const exported = new Map(sources.map(({ path, exports }) => [path, exports]));
  for (const { path, imports } of sources) {
    for (const { path: target, names } of imports) {
      const taken = names.includes('*') ? (exported.get(target) ?? []) : names;
      for (const name of taken) users.get(`${target} ${name}`)?.add(path);
    }
  }
  return [...users.values()].map(({ size }) => size);
}

/** What the house is measured by; counts every line from a function's first to its last. */
export function measure(root: string, sources: readonly Source[]): Figures {
  const by_size = [...sources].sort((a, b) => b.lines - a.lines);
  const lines = sources.map((source) => source.lines);
  const functions = sources.flatMap((source) => source.functions.map((each) => each.lines));
  const arrows = arrowsOf(root, sources);
  const uses = usesOf(sources);
  const slice = (room: string): boolean => SLICES.includes(room);
  return {
    files: {
      count: sources.length,
      lines: sum(lines),
      median: percentile(lines, 0.5),
      longest: by_size[0]?.lines ?? 0,
      longest_path: by_size[0]?.path ?? '',
    },
    functions: {
      count: functions.length,
      median: percentile(functions, 0.5),
      ninetieth: percentile(functions, 0.9),
      longest: Math.max(0, ...functions),
    },
    comment_share: sum(sources.map((source) => source.comment_lines)) / Math.max(1, sum(lines)),
    circles: circlesOf(sources),
    arrows: {
      rooms: arrows.length,
      slices: arrows
        .filter(({ from, to }) => slice(from) && slice(to))
        .map(({ from, to }) => `${from} -> ${to}`),
    },
    used_once: { count: uses.filter((count) => count === 1).length, of: uses.length },
  };
}

/** Every function longer than `limit`, longest first. */
export function longFunctions(sources: readonly Source[], limit = LONG): (FunctionSize & { path: string })[] {
  return sources
    .flatMap(({ path, functions }) => functions.map((each) => ({ ...each, path })))
    .filter(({ lines }) => lines > limit)
    .sort((a, b) => b.lines - a.lines);
}
