import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faultOf, type QuoteUse, type StoredQuote } from './consume.ts';

const QUOTE: StoredQuote = {
  organization_id: 'o',
  environment_id: 'e',
  id: 'q',
  line_of_credit_id: 'line',
  network: 'testnet',
  from_currency: 'btc',
  to_currency: 'usd',
  amount: 1000n,
  target_precision: null,
  rate: '6500000e0',
  quoted_at: '2026-01-01T00:00:00.000000Z',
  expires_at: '2026-01-01T00:05:00.000000Z',
  consumed_at: null,
};
const USE: QuoteUse = {
  from_currency: 'btc',
  to_currency: 'usd',
  amount: 1000n,
  line_of_credit_id: 'line',
  network: 'testnet',
  at: '2026-01-01T00:04:59.999999Z',
};

test('a quote serves the payment that it was made for, until the last microsecond of its life', () => {
  assert.equal(faultOf(QUOTE, USE), null);
});

for (const [fault, quote, use] of [
  ['no such quote', undefined, {}],
  ['the quote failed', { rate: null }, {}],
  ['the quote failed', { expires_at: null }, {}],
  ['the quote is used already', { consumed_at: '2026-01-01T00:00:01.000000Z' }, {}],
  ['the quote has expired', {}, { at: '2026-01-01T00:05:00.000000Z' }],
  ['the quote is for testnet', {}, { network: 'mainnet' }],
  ['the quote is for another line of credit', {}, { line_of_credit_id: 'other' }],
  ['the quote is from btc to usd, not from usd to usd', {}, { from_currency: 'usd' }],
  ['the quote is from btc to usd, not from btc to btc', {}, { to_currency: 'btc' }],
  ['the quote is for 1000, not 999', {}, { amount: 999n }],
] as [string, Partial<StoredQuote> | undefined, Partial<QuoteUse>][]) {
  test(`a quote is refused: ${fault} (${Object.keys({ ...quote, ...use }).join()})`, () => {
    assert.equal(faultOf(quote && { ...QUOTE, ...quote }, { ...USE, ...use }), fault);
  });
}
