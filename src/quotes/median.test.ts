import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { centsUp, formatRate, type Rate } from '../core/rate.ts';
import { judgeReadings } from './median.ts';
import { parseDollars } from './sources.ts';
import { walkedRate } from './walk.ts';

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
});

test('a source far from the median is left out and named, and does not move it', () => {
  const result = judgeReadings(readings({ a: '100', b: '100.2', c: '100.1', liar: '250' }), RULES);
  assert.deepEqual(result.left_out, ['liar']);
  assert.equal(result.rate && formatRate(result.rate), '10010e0');
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
    { numRuns: 10_000 },
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
    { numRuns: 10_000 },
  );
  const walk = Array.from({ length: 100 }, (_, index) =>
    formatRate(walkedRate('a', center, index * 600_000)),
  );
  assert.ok(new Set(walk).size > 90, 'it moves');
  assert.notEqual(formatRate(walkedRate('b', center, 600_000)), walk[1]);
});
