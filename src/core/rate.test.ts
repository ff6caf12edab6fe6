import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  centsDown,
  centsUp,
  formatRate,
  msatsUp,
  normalRate,
  parseRate,
  readRate,
  withSpread,
} from './rate.ts';
import { RUNS } from '../../test/runs.ts';

const rates = fc.record({
  coefficient: fc.bigInt({ min: 1n, max: 10n ** 18n }),
  scale: fc.integer({ min: 0, max: 12 }),
});
const amounts = fc.oneof(fc.bigInt({ min: 0n, max: 100_000n }), fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }));
const spreads = fc.integer({ min: 0, max: 5000 });

test('a rate is written and read without loss', () => {
  fc.assert(
    fc.property(rates, (rate) => assert.deepEqual(parseRate(formatRate(rate)), { ...rate })),
    RUNS,
  );
  assert.deepEqual(readRate('1e30'), { coefficient: 1n, scale: 30 });
  assert.throws(() => readRate('1e31'), /not a rate: 1e31/);
  for (const text of [
    '',
    '0e0',
    '-1e0',
    '1',
    '1e',
    'e1',
    '1.5e0',
    '1e31',
    '01e0',
    '1e+1',
    ' 1e0',
    '1E0',
    '1e0 ',
  ]) {
    assert.equal(parseRate(text), null, text);
  }
});

test('trailing zeros behind the point change nothing', () => {
  fc.assert(
    fc.property(rates, amounts, (rate, amount) => {
      assert.equal(centsUp(normalRate(rate), amount), centsUp(rate, amount));
      assert.equal(msatsUp(normalRate(rate), amount), msatsUp(rate, amount));
    }),
    RUNS,
  );
});

test('threat 11: no round trip through another currency gains, for any amount and any rate', () => {
  fc.assert(
    fc.property(rates, amounts, (rate, amount) => {
      // Bitcoin sold for cents, and as much bought back for them.
      assert.ok(msatsUp(rate, centsUp(rate, amount)) >= amount);
      // Cents turned into msats that they cost, and sold again.
      assert.ok(centsDown(rate, msatsUp(rate, amount)) >= amount);
      // What is left of msats sold is never worth more than they were.
      const cents = centsDown(rate, amount);
      if (cents > 0n) assert.ok(msatsUp(rate, cents) <= amount);
    }),
    RUNS,
  );
});

test('no sum of parts beats the whole', () => {
  fc.assert(
    fc.property(rates, amounts, amounts, (rate, a, b) => {
      assert.ok(centsDown(rate, a) + centsDown(rate, b) <= centsDown(rate, a + b));
      assert.ok(centsUp(rate, a) + centsUp(rate, b) >= centsUp(rate, a + b));
      assert.ok(msatsUp(rate, a) + msatsUp(rate, b) >= msatsUp(rate, a + b));
    }),
    RUNS,
  );
});

test('rounding moves an amount by less than one unit, in the direction that it says', () => {
  fc.assert(
    fc.property(rates, amounts, (rate, amount) => {
      const unit = 10n ** BigInt(rate.scale + 11);
      const exact = amount * rate.coefficient;
      assert.ok(centsUp(rate, amount) * unit >= exact && centsUp(rate, amount) * unit < exact + unit);
      assert.ok(centsDown(rate, amount) * unit <= exact && centsDown(rate, amount) * unit > exact - unit);
    }),
    RUNS,
  );
});

test('a spread never favours the customer, and none changes nothing', () => {
  fc.assert(
    fc.property(rates, amounts, spreads, (rate, amount, bps) => {
      assert.ok(
        centsUp(withSpread(rate, bps, 'up'), amount) >= centsUp(rate, amount),
        'who sends pays no less',
      );
      assert.ok(
        msatsUp(withSpread(rate, bps, 'down'), amount) >= msatsUp(rate, amount),
        'who receives asks no less',
      );
      assert.equal(formatRate(withSpread(rate, 0, 'up')), formatRate(rate));
    }),
    RUNS,
  );
});

test('a spread moves the rate by exactly its basis points, without zeros behind the point', () => {
  const rate = { coefficient: 6_500_000n, scale: 0 };
  assert.equal(formatRate(withSpread(rate, 100, 'up')), '6565000e0');
  assert.equal(formatRate(withSpread(rate, 100, 'down')), '6435000e0');
  assert.equal(formatRate(withSpread(rate, 1, 'up')), '6500650e0');
  assert.equal(formatRate(withSpread({ coefficient: 650n, scale: 1 }, 0, 'up')), '650e1');
});
