import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_BTC_MSATS, MAX_CENTS } from '../core/money.ts';
import { checkQuote, makeQuote, type QuoteBody, type QuoteLine } from './rules.ts';
import { refuses } from '../../test/refusal.ts';

const ASSET = `asset:${'02'.repeat(33)}`;
const LINE: QuoteLine = {
  environment_id: 'e',
  network: 'testnet',
  currency: 'usd',
  disabled_at: null,
  spread_bps: 100,
};
const ask = (amount: QuoteBody['amount'], to: string, fields: Partial<QuoteBody> = {}): QuoteBody => ({
  id: 'ID',
  line_of_credit_id: 'LINE',
  network: 'testnet3',
  amount,
  to,
  ...fields,
});
const btc = (amount: number | bigint) => ({ currency: 'btc', amount });
const usd = (amount: number | bigint) => ({ currency: 'usd', amount });
const check = (body: QuoteBody, line: QuoteLine | null = LINE) => checkQuote(body, line, 'e');
const refusesFields = (work: () => unknown, ...fields: string[]) =>
  refuses(work, 'invalid_quote_request', new RegExp(`^not acceptable: ${fields.join(', ')}$`), {
    context: { fields },
  });

test('bitcoin and dollars are quoted against each other, up to all that there can be', () => {
  check(ask(btc(1), 'usd'));
  check(ask(btc(MAX_BTC_MSATS), 'usd', { target_precision: { currency: 'usd', precision: 'cents' } }));
  check(ask({ ...usd(MAX_CENTS), negative: false }, 'btc'));
  check(ask(btc(1), 'usd'), { ...LINE, currency: 'btc' });
});

for (const [what, amount] of [
  ['nothing', btc(0)],
  ['less than nothing', btc(-1)],
  ['what is marked as negative', { ...btc(1), negative: true }],
  ['more bitcoin than there is', btc(MAX_BTC_MSATS + 1n)],
  ['more dollars than a payment can have', usd(MAX_CENTS + 1n)],
] as const) {
  test(`${what} is not quoted`, () => {
    refusesFields(() => check(ask(amount, amount.currency === 'btc' ? 'usd' : 'btc')), 'amount');
  });
}

test('a line that is not there, is disabled or is of another environment or network quotes nothing', () => {
  const body = ask(btc(1), 'usd');
  refusesFields(() => check(body, null), 'line_of_credit_id');
  refusesFields(() => check(body, { ...LINE, disabled_at: 'then' }), 'line_of_credit_id');
  refusesFields(() => check(body, { ...LINE, environment_id: 'other' }), 'line_of_credit_id');
  refusesFields(() => check(body, { ...LINE, network: 'mainnet' }), 'network');
});

test('a currency is not quoted against itself; all fields at fault are named at once', () => {
  refusesFields(() => check(ask(btc(1), 'btc')), 'to');
  refusesFields(() => check(ask(btc(0), 'btc'), null), 'amount', 'to', 'line_of_credit_id');
});

test('one of the two currencies is that of the line', () => {
  refuses(() => check(ask(btc(1), ASSET)), 'mismatch_currency', /the line is in neither/, {
    context: { line_of_credit_currency: 'usd', source_currency: 'btc', target_currency: ASSET },
  });
});

test('nothing but bitcoin and dollars is exchanged', () => {
  refusesFields(() => check(ask(usd(1), ASSET)), 'to');
  refusesFields(() => check(ask({ currency: ASSET, amount: 1 }, 'usd')), 'amount');
  refusesFields(
    () => check(ask({ currency: ASSET, amount: 1 }, `${ASSET}b`), { ...LINE, currency: ASSET }),
    'amount',
    'to',
  );
  // Before it is known to be none of ours, no more of it than of dollars.
  refusesFields(() => check(ask({ currency: ASSET, amount: MAX_CENTS + 1n }, ASSET)), 'amount', 'to');
});

test('a precision is of the currency that is asked for', () => {
  const target_precision = { currency: 'btc', precision: 'sats' };
  check(ask(usd(1), 'btc', { target_precision }));
  refuses(() => check(ask(btc(1), 'usd', { target_precision })), 'mismatch_target_precision', /must be usd/, {
    context: { target_precision, target_currency: 'usd' },
  });
});

const MARKET = { rate: { coefficient: 6_500_000n, scale: 0 }, quoted_at: 'just now' };
const CONTEXT = {
  organization_id: 'o',
  environment_id: 'e',
  at: '2026-01-01T00:00:00.000001Z',
  lifetime_seconds: 300,
};
const make = (body: QuoteBody, market: typeof MARKET | null = MARKET, line = LINE) =>
  makeQuote(body, line, market, CONTEXT);
const COMMON = {
  organization_id: 'o',
  environment_id: 'e',
  id: 'id',
  line_of_credit_id: 'line',
  network: 'testnet',
  requested_at: CONTEXT.at,
};

test('a quote holds the rate with the spread of its line against the customer, for its lifetime', () => {
  const held = {
    ...COMMON,
    quoted_at: 'just now',
    created_at: CONTEXT.at,
    expires_at: '2026-01-01T00:05:00.000000Z',
    failed_at: null,
    error: null,
  };
  assert.deepEqual(make(ask(btc(1_000_000), 'usd')), {
    ...held,
    from_currency: 'btc',
    to_currency: 'usd',
    amount: 1_000_000n,
    target_precision: null,
    rate: '6565000e0',
  });
  const target_precision = { currency: 'btc', precision: 'msats' };
  assert.deepEqual(make(ask(usd(500), 'btc', { target_precision })), {
    ...held,
    from_currency: 'usd',
    to_currency: 'btc',
    amount: 500n,
    target_precision: 'msats',
    rate: '6435000e0',
  });
});

test('without a rate the quote has failed, and says of what', () => {
  const detail = 'too few sources of the rate answer';
  assert.deepEqual(make(ask(btc(1), 'usd'), null), {
    ...COMMON,
    from_currency: 'btc',
    to_currency: 'usd',
    amount: 1n,
    target_precision: null,
    rate: null,
    quoted_at: null,
    created_at: null,
    expires_at: null,
    failed_at: CONTEXT.at,
    error: { type: 'price', detail, context: { message: detail } },
  });
});

const AT_PAR = { ...LINE, spread_bps: 0 };
/** Quoted at `cents` per bitcoin, without a spread. */
const at = (cents: bigint, body: QuoteBody) =>
  make(body, { ...MARKET, rate: { coefficient: cents, scale: 0 } }, AT_PAR);

test('an amount is quoted from exactly one unit of the other side on: a cent, a sat, or a msat where asked', () => {
  // A cent is 15,384.6 msats.
  refusesFields(() => at(6_500_000n, ask(btc(15_384), 'usd')), 'amount');
  at(6_500_000n, ask(btc(15_385), 'usd'));
  // A sat is 100.05 cents.
  refusesFields(() => at(10_005_000_000n, ask(usd(100), 'btc')), 'amount');
  at(10_005_000_000n, ask(usd(101), 'btc'));
  const target_precision = { currency: 'btc', precision: 'msats' };
  at(10_005_000_000n, ask(usd(100), 'btc', { target_precision }));
  // Exactly a sat.
  at(10_000_000_000n, ask(usd(100), 'btc'));
});

test('an amount that would be more than there can be on the other side is refused', () => {
  const cents = 10n ** 15n;
  at(cents, ask(btc(100_000_000_000n), 'usd'));
  refusesFields(() => at(cents, ask(btc(100_000_000_001n), 'usd')), 'amount');
  at(1n, ask(usd(21_000_000), 'btc'));
  refusesFields(() => at(1n, ask(usd(21_000_001), 'btc')), 'amount');
});
