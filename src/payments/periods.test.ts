import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { WIDTHS } from './fold.ts';
import { cutPeriod, type Cut } from './periods.ts';
import { RUNS } from '../../test/runs.ts';

const timeOf = (text: string): number =>
  text === 'infinity' ? Infinity : text === '-infinity' ? -Infinity : Date.parse(text);

/** How often a moment is counted by a cut: in its slots and at its edges. */
function counted(cut: Cut, at_ms: number): number {
  const spans = cut.spans.filter(({ from, to }) => timeOf(from) <= at_ms && at_ms < timeOf(to));
  const edges = cut.edges.filter(
    ({ from, before, until }) => timeOf(from) <= at_ms && at_ms < timeOf(before) && at_ms <= timeOf(until),
  );
  return spans.length + edges.length;
}

const START = Date.UTC(2026, 0, 1);
const moments = fc.oneof(
  fc.integer({ min: 0, max: 100_000 }),
  fc.integer({ min: 0, max: 400_000_000 }),
  fc.integer({ min: 0, max: 4000 }).map((slots) => slots * 900_000),
  fc.integer({ min: 0, max: 40 }).map((slots) => slots * 86_400_000),
);
const bounds = fc.option(moments, { nil: undefined });
const text = (ms: number | undefined) => (ms === undefined ? undefined : new Date(START + ms).toISOString());

test('every moment of a period is counted exactly once, and none outside', () => {
  fc.assert(
    fc.property(bounds, bounds, fc.array(moments, { minLength: 1 }), (start, end, at) => {
      const cut = cutPeriod(text(start), text(end));
      for (const moment of [...at, start ?? 0, end ?? 0, (start ?? 0) - 1, (end ?? 0) + 1]) {
        const within = moment >= (start ?? -Infinity) && moment <= (end ?? Infinity);
        assert.equal(counted(cut, START + moment), within ? 1 : 0, String(moment));
      }
    }),
    RUNS,
  );
});

test('slots are whole, as wide as they can be, and lie between where the cut begins and ends', () => {
  fc.assert(
    fc.property(bounds, bounds, (start, end) => {
      const { spans, from, to } = cutPeriod(text(start), text(end));
      if (spans.length === 0) return assert.ok(timeOf(from) >= timeOf(to));
      assert.equal(spans[0]?.from, from);
      assert.equal(spans.at(-1)?.to, to);
      // Two of each width at most: one at either end of the wider ones.
      for (const width of WIDTHS) assert.ok(spans.filter((span) => span.width === width).length <= 2);
      for (const span of spans) {
        for (const edge of [timeOf(span.from), timeOf(span.to)]) {
          if (Number.isFinite(edge)) assert.equal(edge % (span.width * 1000), 0, 'whole slots');
        }
        const wider = (WIDTHS[WIDTHS.indexOf(span.width as 10) + 1] ?? 0) * 1000;
        if (wider > 0)
          assert.ok(timeOf(span.to) - timeOf(span.from) < 2 * wider, 'else a wider slot would fit');
      }
    }),
    RUNS,
  );
});

test('a day and its ends are counted by the day, quarters of an hour and tens of seconds', () => {
  assert.deepEqual(cutPeriod('2026-01-01T23:44:55.000001Z', '2026-01-03T00:15:12Z'), {
    spans: [
      { width: 900, from: '2026-01-01T23:45:00.000Z', to: '2026-01-02T00:00:00.000Z' },
      { width: 86_400, from: '2026-01-02T00:00:00.000Z', to: '2026-01-03T00:00:00.000Z' },
      { width: 900, from: '2026-01-03T00:00:00.000Z', to: '2026-01-03T00:15:00.000Z' },
      { width: 10, from: '2026-01-03T00:15:00.000Z', to: '2026-01-03T00:15:10.000Z' },
    ],
    edges: [
      {
        from: '2026-01-01T23:44:55.000001Z',
        before: '2026-01-01T23:45:00.000Z',
        until: '2026-01-03T00:15:12Z',
      },
      { from: '2026-01-03T00:15:10.000Z', before: 'infinity', until: '2026-01-03T00:15:12Z' },
    ],
    from: '2026-01-01T23:45:00.000Z',
    to: '2026-01-03T00:15:10.000Z',
  });
});

test('one wider slot is not worth a cut of its own, and an open end has no edge', () => {
  const [start, end] = ['2026-01-01T00:14:45Z', '2026-01-01T00:15:25Z'];
  assert.deepEqual(cutPeriod(start, end).spans, [
    { width: 10, from: '2026-01-01T00:14:50.000Z', to: '2026-01-01T00:15:20.000Z' },
  ]);
  assert.equal(cutPeriod(start, undefined).edges.length, 1);
  assert.equal(cutPeriod(undefined, end).edges.length, 1);
});

test('all time is one slot; a period without a whole slot in it is read payment by payment', () => {
  const all = { from: '-infinity', to: 'infinity' };
  assert.deepEqual(cutPeriod(undefined, undefined), { spans: [{ width: 0, ...all }], edges: [], ...all });
  const start = '2026-01-01T00:00:01Z';
  for (const end of ['2026-01-01T00:00:09Z', '2026-01-01T00:00:19Z']) {
    assert.deepEqual(cutPeriod(start, end), {
      spans: [],
      edges: [{ from: start, before: 'infinity', until: end }],
      from: 'infinity',
      to: '-infinity',
    });
  }
});

test('a bound beyond every payment is as good as none', () => {
  assert.equal(cutPeriod('0999-12-31T23:59:49Z', undefined).from, '-infinity');
  assert.equal(cutPeriod('0999-12-31T23:59:50Z', undefined).from, '1000-01-01T00:00:00.000Z');
  assert.equal(cutPeriod(undefined, '8999-12-31T23:59:59Z').to, '8999-12-31T23:59:50.000Z');
  assert.equal(cutPeriod(undefined, '9000-01-01T00:00:00Z').to, 'infinity');
});
