import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { divideUp, maxOf, minOf, signedAmount, toMsats, toSats, wireAmount } from './money.ts';
import { RUNS } from '../../test/runs.ts';

const amounts = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n });
const positive = fc.bigInt({ min: 1n, max: 2n ** 64n - 1n });

test('an amount is shown in the unit that the contract derives from its currency', () => {
  assert.deepEqual(wireAmount('btc', 5n), { currency: 'btc', amount: 5n, unit: 'msats' });
  assert.deepEqual(wireAmount('usd', 5n), { currency: 'usd', amount: 5n, unit: 'cents' });
  const asset = `asset:${'02'.repeat(33)}`;
  assert.deepEqual(wireAmount(asset, 5n), { currency: asset, amount: 5n, unit: 'base units' });
});

test('a signed amount is absolute and says whether it is negative; 0 is not', () => {
  assert.deepEqual(signedAmount('btc', 0n), { currency: 'btc', amount: 0n, unit: 'msats', negative: false });
  assert.deepEqual(signedAmount('usd', -1n), { currency: 'usd', amount: 1n, unit: 'cents', negative: true });
  fc.assert(
    fc.property(amounts, (given) => {
      const { amount, negative } = signedAmount('btc', given);
      assert.ok(amount >= 0n);
      assert.equal(negative ? -amount : amount, given);
    }),
    RUNS,
  );
});

test('whole sats are a thousand msats each, and what is less than one is dropped', () => {
  assert.deepEqual([0n, 999n, 1000n, 1999n].map(toSats), [0n, 0n, 1n, 1n]);
  assert.deepEqual([0n, 1n, 21n].map(toMsats), [0n, 1000n, 21_000n]);
});

test('a quotient is rounded up by less than one', () => {
  fc.assert(
    fc.property(positive, positive, (numerator, denominator) => {
      const over = divideUp(numerator, denominator) * denominator - numerator;
      assert.ok(over >= 0n && over < denominator);
    }),
    RUNS,
  );
});

test('the greater and the lesser of two', () => {
  for (const [a, b] of [
    [1n, 2n],
    [2n, 1n],
  ] as const) {
    assert.equal(maxOf(a, b), 2n);
    assert.equal(minOf(a, b), 1n);
  }
});
