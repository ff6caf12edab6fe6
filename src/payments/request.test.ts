import assert from 'node:assert/strict';
import { test } from 'node:test';
import { belowMinimum, givenAmount, givenMaxFee, isSend, type PaymentBody } from './request.ts';
import { refuses } from '../../test/refusal.ts';

const btc = (amount: number | bigint, negative?: boolean) => ({
  currency: 'btc',
  amount,
  ...(negative === undefined ? {} : { negative }),
});

for (const [way, fields, value] of [
  ['an object', { amount: btc(5) }, 5n],
  ['an object below zero', { amount: btc(-5) }, -5n],
  ['an object marked as negative', { amount: btc(5, true) }, -5n],
  ['an object below zero and marked as negative', { amount: btc(-5, true) }, -5n],
  ['an object marked as not negative', { amount: btc(5, false) }, 5n],
  ['msats', { amount_msats: 0 }, 0n],
  ['sats', { amount_sats: 5 }, 5000n],
  ['all of them, where they agree', { amount: btc(5000), amount_msats: 5000n, amount_sats: 5 }, 5000n],
  ['the most that a number of the wire holds', { amount: btc(2n ** 64n - 1n) }, 2n ** 64n - 1n],
] as const) {
  test(`an amount is given as ${way}`, () => {
    assert.deepEqual(givenAmount(fields), { currency: 'btc', value });
  });
}

test('an amount need not be given; a fee cap is given the same ways', () => {
  assert.equal(givenAmount({}), null);
  assert.equal(givenMaxFee({ amount: btc(1), amount_msats: 1, amount_sats: 1 }), null);
  assert.deepEqual(givenMaxFee({ max_fee: btc(1) }), { currency: 'btc', value: 1n });
  assert.deepEqual(givenMaxFee({ max_fee_msats: 2 }), { currency: 'btc', value: 2n });
  assert.deepEqual(givenMaxFee({ max_fee_sats: 3 }), { currency: 'btc', value: 3000n });
});

test('amounts that differ are refused, whichever of them', () => {
  for (const fields of [
    { amount: btc(1000), amount_msats: 1001 },
    { amount: btc(1000), amount_sats: 2 },
    { amount_msats: 1000, amount_sats: 2 },
    { amount: btc(1000), amount_msats: 1000, amount_sats: 2 },
    { amount: { currency: 'usd', amount: 1000 }, amount_msats: 1000 },
  ]) {
    refuses(
      () => givenAmount(fields),
      'amount_match_failed',
      /the amount object and the deprecated amount fields/,
    );
  }
});

test('what is below a minimum is shown as it was given, with the least that is allowed', () => {
  for (const [value, provided] of [
    [-5n, { amount: 5n, negative: true }],
    [0n, { amount: 0n }],
  ] as const) {
    refuses(
      () => {
        throw belowMinimum('invalid_amount', 'data.amount', { currency: 'usd', value }, 1n);
      },
      'invalid_amount',
      /data.amount is below the minimum of 1 usd base units/,
      {
        code: 'below_minimum',
        context: {
          field: 'data.amount',
          provided_amount: { currency: 'usd', unit: 'cents', ...provided },
          min_amount: { currency: 'usd', unit: 'cents', amount: 1n },
        },
      },
    );
  }
});

test('a body with a type is a send, unless it has a payment kind, too', () => {
  const is = (fields: object) => isSend({ id: 'p', wallet_id: 'w', ...fields } as PaymentBody);
  assert.equal(is({ type: 'bolt11' }), true);
  assert.equal(is({ payment_kind: 'bolt11' }), false);
  assert.equal(is({ type: 'bolt11', payment_kind: 'bolt11' }), false);
});
