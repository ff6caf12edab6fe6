import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WalletAccount } from '../ledger/ledger.ts';
import type { StoredQuote } from '../quotes/consume.ts';
import type { WalletFacts } from './store.ts';
import { termsOf, type TermsInput } from './terms.ts';
import type { Draft } from './types.ts';
import { refuses } from '../../test/refusal.ts';

const NOW_MS = Date.parse('2026-01-01T00:00:00.000Z');
const QUOTE: StoredQuote = {
  organization_id: 'o',
  environment_id: 'e',
  id: 'quote',
  line_of_credit_id: 'line',
  network: 'testnet',
  from_currency: 'usd',
  to_currency: 'btc',
  amount: 2n,
  target_precision: null,
  rate: '6500000e0',
  quoted_at: '2025-12-31T23:59:59.000000Z',
  expires_at: '2026-01-01T00:01:00.900000Z',
  consumed_at: null,
};
const LOCKED = {
  from: 'usd',
  to: 'btc',
  rate: '6500000e0',
  quoted_at: QUOTE.quoted_at,
  expires_at: QUOTE.expires_at,
};
const SELLING: StoredQuote = { ...QUOTE, from_currency: 'btc', to_currency: 'usd', amount: 1000n };

const draft = (fields: Partial<Draft>): Draft => ({
  direction: 'receive',
  kind: 'bolt11',
  amount: null,
  requested: null,
  max_fee: null,
  payment_hash: null,
  payment_request: null,
  address: null,
  description: null,
  expiration: 3600,
  ...fields,
});
const send = (fields: Partial<Draft> = {}) =>
  draft({ direction: 'send', amount: 1000n, expiration: null, ...fields });
const bps = (fields: Partial<WalletAccount> = {}) =>
  ({
    line_send_bps: 100,
    line_receive_bps: 200,
    own_send_bps: null,
    own_receive_bps: null,
    ...fields,
  }) as WalletAccount;

/** Terms of a draft for a wallet of bitcoin, or of dollars where a quote is given or named. */
const terms = (asked: Draft, input: Partial<TermsInput> & { currency?: string } = {}) => {
  const { currency = 'btc', ...fields } = input;
  return termsOf({
    draft: asked,
    wallet: { currency, line_of_credit_id: 'line', network: 'testnet' } as WalletFacts,
    account: bps(),
    quote_id: fields.quote ? 'quote' : null,
    quote: undefined,
    endpoint: 'payments',
    now_ms: NOW_MS,
    ...fields,
  });
};
const inDollars = (asked: Draft, quote: StoredQuote = QUOTE, fields: Partial<TermsInput> = {}) =>
  terms(asked, { currency: 'usd', quote, ...fields });

test('a send of bitcoin bears a fee on its amount, and never expires', () => {
  assert.deepEqual(terms(send()), {
    quote_id: null,
    quote: null,
    requested: null,
    amount: 1000n,
    payable: null,
    processing_fee: 10n,
    fee_bps: 100,
    expiration: null,
    expires_at: null,
  });
});

test('a receive of bitcoin asks for the fee on top, for as long as it says', () => {
  assert.deepEqual(terms(draft({ amount: 1000n, expiration: 90 })), {
    quote_id: null,
    quote: null,
    requested: null,
    amount: 1000n,
    payable: 1020n,
    processing_fee: 20n,
    fee_bps: 200,
    expiration: 90,
    expires_at: '2026-01-01T00:01:30.000000Z',
  });
  assert.equal(terms(draft({ amount: 1000n, kind: 'onchain' })).payable, 2000n);
});

test('a receive of any amount asks for nothing in particular', () => {
  const { amount, payable, processing_fee } = terms(draft({}));
  assert.deepEqual([amount, payable, processing_fee], [null, null, 0n]);
});

test("the wallet's own fee rates come before its line's; a treasury movement bears none", () => {
  const own = bps({ own_send_bps: 0, own_receive_bps: 300 });
  assert.equal(terms(send(), { account: own }).fee_bps, 0);
  assert.equal(terms(draft({}), { account: own }).fee_bps, 300);
  for (const asked of [send(), draft({ amount: 1000n })]) {
    const { fee_bps, processing_fee } = terms(asked, { endpoint: 'treasury' });
    assert.deepEqual([fee_bps, processing_fee], [0, 0n]);
  }
});

test('a receive of dollars asks for bitcoin at its quote, in sats unless the quote says otherwise', () => {
  const asked = draft({ requested: 2n, expiration: 30 });
  assert.deepEqual(inDollars(asked), {
    quote_id: 'quote',
    quote: LOCKED,
    requested: 2n,
    amount: 31_000n,
    payable: 47_000n,
    processing_fee: 1n,
    fee_bps: 200,
    expiration: 30,
    expires_at: '2026-01-01T00:00:30.000000Z',
  });
  const precise = { ...QUOTE, target_precision: 'msats' };
  assert.equal(inDollars(asked, precise).amount, 30_770n);
  // An address takes whole sats only.
  assert.equal(inDollars({ ...asked, kind: 'bip21' }, precise).amount, 31_000n);
});

test('a receive of dollars lives no longer than its quote, in whole seconds, and at least one', () => {
  assert.equal(inDollars(draft({ requested: 2n })).expiration, 60);
  assert.equal(inDollars(draft({ requested: 2n })).expires_at, '2026-01-01T00:01:00.000000Z');
  const at = (now: string) => inDollars(draft({ requested: 2n }), QUOTE, { now_ms: Date.parse(now) });
  assert.equal(at('2026-01-01T00:00:59.900Z').expiration, 1);
  refuses(() => at('2026-01-01T00:00:59.901Z'), 'invalid_quote', /^quote_id: the quote has expired$/);
});

test('a receive of dollars at an address is not dust there', () => {
  const worth = (cents: bigint) =>
    inDollars(
      draft({ kind: 'onchain', requested: cents }),
      { ...QUOTE, amount: cents },
      { account: bps({ own_receive_bps: 0 }) },
    );
  // 19 cents are 293 sats.
  assert.throws(() => worth(19n), { type: 'invalid_on_chain_payment' });
  assert.equal(worth(20n).payable, 308_000n);
  assert.equal(inDollars(draft({ requested: 2n, kind: 'bip21' })).payable, 47_000n);
});

test('a send from dollars keeps its amount in bitcoin and locks its quote', () => {
  const { amount, processing_fee, quote, quote_id, expires_at } = inDollars(send(), SELLING);
  assert.deepEqual([amount, processing_fee, quote_id, expires_at], [1000n, 10n, 'quote', null]);
  assert.deepEqual(quote, { ...LOCKED, from: 'btc', to: 'usd' });
});

test('a wallet of bitcoin takes no quote, one of dollars needs one, but for a check', () => {
  refuses(
    () => terms(send(), { quote_id: 'quote' }),
    'invalid_quote',
    /^quote_id: a bitcoin wallet exchanges nothing$/,
  );
  refuses(() => terms(send(), { currency: 'usd' }), 'quote_required', /quote_id is required/, {
    code: 'required',
    context: { field: 'quote_id', required: true },
  });
  const { quote, quote_id } = terms(send(), { currency: 'usd', endpoint: 'check' });
  assert.deepEqual([quote, quote_id], [null, null]);
});

test('a quote serves what it was made for: direction, amount, line, network, time', () => {
  const receive = draft({ requested: 2n });
  for (const [says, asked, quote, fields] of [
    [/no such quote/, receive, undefined, { quote_id: 'other' }],
    [/is from btc to usd, not from usd to btc/, receive, { ...SELLING, amount: 2n }, {}],
    [/is from usd to btc, not from btc to usd/, send(), { ...QUOTE, amount: 1000n }, {}],
    [/is for 3, not 2/, receive, { ...QUOTE, amount: 3n }, {}],
    [/is for 999, not 1000/, send(), { ...SELLING, amount: 999n }, {}],
    [/another line of credit/, receive, { ...QUOTE, line_of_credit_id: 'other' }, {}],
    [/is for mainnet/, receive, { ...QUOTE, network: 'mainnet' }, {}],
    [/has expired/, receive, QUOTE, { now_ms: NOW_MS + 60_900 }],
  ] as const) {
    const input = { currency: 'usd', quote, ...fields };
    refuses(() => terms(asked, input), 'invalid_quote', new RegExp(`^quote_id: .*${says.source}`));
  }
});
