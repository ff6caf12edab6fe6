import { WIDTHS } from './fold.ts';

/** Whole slots of one width, from one time to another. */
export interface Span {
  width: number;
  from: string;
  to: string;
}

/** Payments made from `from` on, before `before` and not after `until`. */
export interface Edge {
  from: string;
  before: string;
  until: string;
}

/** A period cut into what is counted in whole slots, as few as it takes, and the rest at its ends. */
export interface Cut {
  spans: Span[];
  edges: Edge[];
  /** Where the slots begin and end; `from` is not before `to` where there are none. */
  from: string;
  to: string;
}

const PAST = '-infinity';
const FUTURE = 'infinity';
const FINEST_MS = WIDTHS[0] * 1000;
// What a timestamp of ours can be written as; beyond it there are no payments.
const FIRST_MS = Date.UTC(1000, 0, 1);
const LAST_MS = Date.UTC(9000, 0, 1);

const textOf = (ms: number): string => {
  if (ms < FIRST_MS) return PAST;
  return ms >= LAST_MS ? FUTURE : new Date(ms).toISOString();
};

/** Cuts the period from `start` to `end`, both included; without them it has no beginning or no end. */
export function cutPeriod(start: string | undefined, end: string | undefined): Cut {
  if (start === undefined && end === undefined) {
    return { spans: [{ width: 0, from: PAST, to: FUTURE }], edges: [], from: PAST, to: FUTURE };
  }
  // The slot that a bound lies in is read payment by payment, even if the bound is its very beginning.
  const first = start === undefined ? -Infinity : floor(Date.parse(start), FINEST_MS) + FINEST_MS;
  const last = end === undefined ? Infinity : floor(Date.parse(end), FINEST_MS);
  const from = start ?? PAST;
  const until = end ?? FUTURE;
  if (first >= last) {
    return { spans: [], edges: [{ from, before: FUTURE, until }], from: FUTURE, to: PAST };
  }
  const edges: Edge[] = [];
  if (start !== undefined) edges.push({ from, before: textOf(first), until });
  if (end !== undefined) edges.push({ from: textOf(last), before: FUTURE, until });
  const spans = spansOf(first, last, 0);
  return { spans, edges, from: textOf(first), to: textOf(last) };
}

const floor = (ms: number, step: number): number => Math.floor(ms / step) * step;
const ceil = (ms: number, step: number): number => Math.ceil(ms / step) * step;

/** Slots of the width at `level` at both ends, wider ones between them. */
function spansOf(first: number, last: number, level: number): Span[] {
  const width = WIDTHS[level] ?? 0;
  const wider = (WIDTHS[level + 1] ?? 0) * 1000;
  const span = (from: number, to: number): Span => ({ width, from: textOf(from), to: textOf(to) });
  if (wider === 0) return [span(first, last)];
  const [inner_first, inner_last] = [ceil(first, wider), floor(last, wider)];
  if (inner_first >= inner_last) return [span(first, last)];
  return [
    ...(first < inner_first ? [span(first, inner_first)] : []),
    ...spansOf(inner_first, inner_last, level + 1),
    ...(inner_last < last ? [span(inner_last, last)] : []),
  ];
}
