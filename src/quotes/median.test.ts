import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { centsUp, formatRate, type Rate } from '../core/rate.ts';
import { judgeReadings } from './median.ts';
import { parseDollars } from './sources.ts';
import { parseSandboxRate, walkedRate } from './walk.ts';
import { RUNS } from '../../test/runs.ts';

const RULES = { now_ms: 100_000, max_age_ms: 60_000, max_deviation_bps: 200, quorum: 2 };
const dollars = (text: string): Rate => {
  const rate = parseDollars(text);
  assert.ok(rate);
  return rate;
};
const readings = (prices: Record<string, string>, at_ms = 90_000) =>
  Object.entries(prices).map(([source, text]) => ({ source, rate: dollars(text), at_ms }));
const median = (prices: Record<string, string>, rules = RULES): string | null => {
  const { rate } = judgeReadings(readings(prices), rules);
  return rate && formatRate(rate);
};

test('a price in dollars is read as exact cents', () => {
  assert.equal(formatRate(dollars('65000')), '6500000e0');
  assert.equal(formatRate(dollars('64999.12345678')), '649991234567800e8'.replace('00e8', 'e6'));
  assert.equal(formatRate(dollars('0.01')), '1e0');
  for (const text of [
    '',
    '0',
    '0.00',
    '-1',
    '1e5',
    '1,000',
    '1.',
    '.5',
    ' 1',
    'NaN',
    null,
    65000,
    undefined,
  ]) {
    assert.equal(parseDollars(text), null, String(text));
  }
});

test('the median of an odd number is the middle one, of an even number the exact mean of the two', () => {
  assert.equal(median({ a: '100', b: '101', c: '100.5' }), '10050e0');
  assert.equal(median({ a: '100', b: '101', c: '100.4', d: '100.5' }), '10045e0');
  assert.equal(median({ a: '100.01', b: '100.02' }), '100015e1');
  // However many digits each of them writes.
  assert.equal(median({ a: '100', b: '99.999', c: '100.00001' }), '10000e0');
  assert.equal(median({ a: '100.00001', b: '100', c: '99.999', d: '100.001' }), '100000005e4');
});

test('a source far from the median is left out and named, and does not move it', () => {
  const result = judgeReadings(readings({ a: '100', b: '100.2', c: '100.1', liar: '250' }), RULES);
  assert.deepEqual(result.left_out, ['liar']);
  assert.equal(result.rate && formatRate(result.rate), '10010e0');
});

test('a source may be as far from the median as the bound says, above or below it, and no further', () => {
  for (const [price, left_out] of [
    ['102', []],
    ['102.0001', ['c']],
    ['98', []],
    ['97.9999', ['c']],
  ] as const) {
    assert.deepEqual(judgeReadings(readings({ a: '100', b: '100', c: price }), RULES).left_out, left_out);
  }
});

test('a reading counts for as long as the bound says, before now or after it; the oldest dates the rate', () => {
  for (const [at_ms, counts] of [
    [40_000, true],
    [39_999, false],
    [160_000, true],
    [160_001, false],
  ] as const) {
    const result = judgeReadings([...readings({ a: '100' }), ...readings({ b: '100' }, at_ms)], RULES);
    assert.equal(result.rate !== null, counts, String(at_ms));
    if (counts) assert.equal(result.at_ms, Math.min(at_ms, 90_000));
  }
});

test('below the quorum there is no rate: too few, too old, or too far apart', () => {
  assert.equal(median({ a: '100' }), null);
  assert.equal(median({}), null);
  const old = judgeReadings([...readings({ a: '100' }), ...readings({ b: '100' }, 39_999)], RULES);
  assert.equal(old.rate, null);
  assert.equal(median({ a: '100', b: '150' }), null);
});

test('whatever two thirds of the sources agree on, the rest cannot move out of their range', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 100_000, max: 100_500 }), { minLength: 4, maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 10_000_000 }), { maxLength: 2 }),
      (honest, liars) => {
        const all = [...honest, ...liars].map((cents, index) => ({
          source: `s${index}`,
          rate: { coefficient: BigInt(cents), scale: 0 },
          at_ms: 90_000,
        }));
        const { rate } = judgeReadings(all, RULES);
        assert.ok(rate);
        // Cents of a whole bitcoin.
        const value = centsUp(rate, 100_000_000_000n);
        assert.ok(value >= 97_000n && value <= 103_000n, `${value}`);
      },
    ),
    RUNS,
  );
});

test('the sandbox walks by seed and time alone, stands still for ten seconds and stays near its centre', () => {
  const center = { coefficient: 6_500_000n, scale: 0 };
  fc.assert(
    fc.property(fc.uuid(), fc.integer({ min: 0, max: 4_102_444_800_000 }), (seed, now_ms) => {
      const here = walkedRate(seed, center, now_ms);
      assert.deepEqual(walkedRate(seed, center, now_ms - (now_ms % 10_000)), here);
      const cents = centsUp(here, 100_000_000_000n);
      assert.ok(cents >= 6_321_250n && cents <= 6_678_751n, `${cents}`);
    }),
    RUNS,
  );
  const walk = Array.from({ length: 100 }, (_, index) =>
    formatRate(walkedRate('a', center, index * 600_000)),
  );
  assert.ok(new Set(walk).size > 90, 'it moves');
  assert.notEqual(formatRate(walkedRate('b', center, 600_000)), walk[1]);
});

test('the walk of a seed is the same on every server, whatever the time', () => {
  const walk = [0, 10_000, 290_000, 1_795_770_000_000].map((now_ms) =>
    formatRate(walkedRate('seed', { coefficient: 6_500_000n, scale: 0 }, now_ms)),
  );
  assert.deepEqual(walk, ['6627270e0', '66268345e1', '66150435e1', '65262925e1']);
});

test('a rate that the sandbox takes leaves room for its walk and a spread', () => {
  assert.deepEqual(parseSandboxRate('999999999999999e12'), { coefficient: 999_999_999_999_999n, scale: 12 });
  for (const text of ['1000000000000000e0', '1e13', '0e0', 'dear'])
    assert.equal(parseSandboxRate(text), null);
});
