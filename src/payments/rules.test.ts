import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_BTC_MSATS, MAX_CENTS } from '../core/money.ts';
import { CHAINS } from '../lightning/address.ts';
import { encodeInvoice, type InvoiceFields } from '../lightning/bolt11.ts';
import type { ReceiveBody, SendBody } from './request.ts';
import { checkFeatures, draftReceive, draftSend } from './rules.ts';
import type { Draft } from './types.ts';
import { refuses } from '../../test/refusal.ts';

const NOW_MS = 1_767_225_600_000;
const CONTEXT = { chain: CHAINS.mutinynet, now_ms: NOW_MS, wallet_currency: 'btc' };
const HASH = '11'.repeat(32);
/** Pays to a witness public key (dust 294 sats), to a witness script (330), on mainnet. */
const ADDRESS = 'tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx';
const SCRIPT = 'tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7';
const ELSEWHERE = 'bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4';

const invoice = (amount_msats: bigint | null, fields: Partial<InvoiceFields> = {}): string =>
  encodeInvoice({
    prefix: 'tbs',
    amount_msats,
    payment_hash: Buffer.from(HASH, 'hex'),
    payment_secret: Buffer.alloc(32, 2),
    description: 'coffee',
    expiry_seconds: 60,
    created_at_ms: NOW_MS,
    private_key: Buffer.alloc(32, 3),
    ...fields,
  });
const msats = (amount: number | bigint) => ({ currency: 'btc', amount });
const required = (field: string) => ({ code: 'required', context: { field, required: true } });
const below = (field: string, provided: object, least: bigint, currency = 'btc') => {
  const unit = currency === 'btc' ? 'msats' : 'cents';
  const context = {
    field,
    provided_amount: { currency, unit, ...provided },
    min_amount: { currency, unit, amount: least },
  };
  return { code: 'below_minimum', context };
};

const EMPTY = {
  amount: null,
  requested: null,
  max_fee: null,
  payment_hash: null,
  payment_request: null,
  address: null,
  description: null,
  expiration: null,
};

const send = (type: SendBody['type'], data: SendBody['data'], fields: Partial<SendBody> = {}): Draft =>
  draftSend({ id: 'p', wallet_id: 'w', currency: 'btc', type, data, ...fields }, CONTEXT);
const receive = (fields: Partial<ReceiveBody>, currency = 'btc'): Draft =>
  draftReceive({ id: 'p', wallet_id: 'w', payment_kind: 'bolt11', ...fields }, currency);

const ALL = ['payments', 'treasury', 'assets', 'onchain', 'bip21', 'swaps'];
for (const [kind, flow, is_treasury, needed] of [
  ['bolt11', undefined, false, ['payments']],
  ['bolt11', 'direct', true, ['payments', 'treasury']],
  ['onchain', undefined, false, ['payments', 'onchain']],
  ['bip21', 'swap', false, ['payments', 'bip21', 'swaps']],
  ['taprootasset', { type: 'swap' }, false, ['payments', 'assets', 'swaps']],
] as const) {
  test(`${is_treasury ? 'a treasury movement by' : 'a payment by'} ${kind} needs ${needed.join(' and ')}`, () => {
    checkFeatures(new Set(needed), kind, flow, is_treasury);
    for (const feature of ALL) {
      const features = new Set(ALL.filter((other) => other !== feature));
      const check = () => checkFeatures(features, kind, flow, is_treasury);
      if (!(needed as readonly string[]).includes(feature)) check();
      else {
        const extra = { code: 'disabled', context: { feature } };
        refuses(check, 'feature_flag_disabled', new RegExp(`the feature ${feature} is not enabled`), extra);
      }
    }
  });
}

test('a send of an invoice takes what the invoice says, in one spelling', () => {
  const payment_request = invoice(150_000n);
  const draft = {
    ...EMPTY,
    direction: 'send',
    kind: 'bolt11',
    amount: 150_000n,
    max_fee: 1500n,
    payment_hash: HASH,
    payment_request,
    description: 'coffee',
  };
  assert.deepEqual(send('bolt11', { payment_request: payment_request.toUpperCase() }), draft);
  assert.deepEqual(send('bolt11', { payment_request, amount_msats: 150_000 }), draft);
});

test('an invoice without an amount needs one, and takes any that there can be', () => {
  const payment_request = invoice(null);
  assert.equal(send('bolt11', { payment_request, amount: msats(1) }).amount, 1n);
  assert.equal(send('bolt11', { payment_request, amount: msats(MAX_BTC_MSATS) }).amount, MAX_BTC_MSATS);
  refuses(
    () => send('bolt11', { payment_request }),
    'amount_required',
    /data.amount is required/,
    required('data.amount'),
  );
});

test('an invoice is refused that cannot be read, has expired or is of another chain', () => {
  const pay = (payment_request?: string) =>
    send('bolt11', payment_request === undefined ? {} : { payment_request });
  for (const none of [undefined, '']) {
    const extra = required('data.payment_request');
    refuses(() => pay(none), 'missing_payment_request', /data.payment_request is required/, extra);
  }
  refuses(() => pay('lntbs1'), 'invalid_bolt11_payment_request', /cannot be read: not bech32/);
  refuses(() => pay(invoice(1n, { prefix: 'bc' })), 'invalid_network', /another network \(lnbc\)/);
  pay(invoice(1n, { created_at_ms: NOW_MS - 59_000 }));
  const expired = invoice(1n, { created_at_ms: NOW_MS - 60_000 });
  refuses(() => pay(expired), 'invalid_bolt11_payment_request', /the invoice has expired/);
});

test('an amount that differs from that of the invoice is refused', () => {
  const pay = () => send('bolt11', { payment_request: invoice(1000n), amount: msats(1001) });
  refuses(pay, 'amount_match_failed', /asks for 1000 msats, not 1001/);
});

test('a send to an address takes whole sats, its description and the fee floor of the chain', () => {
  const draft = { ...EMPTY, direction: 'send', kind: 'onchain', address: ADDRESS, max_fee: 263_000n };
  assert.deepEqual(send('onchain', { address: ADDRESS, amount_sats: 294 }), { ...draft, amount: 294_000n });
  assert.deepEqual(send('onchain', { address: ADDRESS, amount: msats(1_000_000), description: 'rent' }), {
    ...draft,
    amount: 1_000_000n,
    description: 'rent',
  });
  assert.equal(send('onchain', { address: SCRIPT, amount_sats: 330 }).amount, 330_000n);
});

test('an address is refused that is none or of another network; so is an amount that it cannot take', () => {
  const amount_sats = 1000;
  for (const data of [{ amount_sats }, { address: '', amount_sats }]) {
    refuses(() => send('onchain', data), 'missing_address', /data.address is/, required('data.address'));
  }
  refuses(
    () => send('onchain', { address: ADDRESS }),
    'amount_required',
    /data.amount is required/,
    required('data.amount'),
  );
  refuses(() => send('onchain', { address: `bitcoin:${ADDRESS}`, amount_sats }), 'invalid_address', /not a/);
  refuses(() => send('onchain', { address: 'x', amount_sats }), 'invalid_address', /data.address: not a/);
  refuses(() => send('onchain', { address: ELSEWHERE, amount_sats }), 'invalid_network', /of mainnet/);
  refuses(
    () => send('onchain', { address: ADDRESS, amount_msats: 1_000_001 }),
    'invalid_amount',
    /data.amount must be whole sats/,
  );
  for (const [address, least] of [
    [ADDRESS, 294_000n],
    [SCRIPT, 330_000n],
  ] as const) {
    refuses(
      () => send('onchain', { address, amount_msats: least - 1000n }),
      'invalid_on_chain_payment',
      /data.amount is below the minimum/,
      below('data.amount', { amount: least - 1000n }, least),
    );
  }
});

for (const [what, type, data] of [
  ['an invoice', 'bolt11', { payment_request: invoice(null) }],
  ['an address', 'onchain', { address: ADDRESS }],
] as const) {
  test(`an amount sent to ${what} is bitcoin, more than nothing and no more than there is`, () => {
    const pay = (amount: SendBody['data']['amount'] & object) => send(type, { ...data, amount });
    refuses(
      () => pay({ currency: 'usd', amount: 1 }),
      'invalid_currency',
      /data.amount.currency must be btc/,
    );
    refuses(
      () => pay(msats(0)),
      'invalid_amount',
      /data.amount is below/,
      below('data.amount', { amount: 0n }, 1n),
    );
    refuses(
      () => pay({ ...msats(5), negative: true }),
      'invalid_amount',
      /data.amount is below the minimum of 1 btc/,
      below('data.amount', { amount: 5n, negative: true }, 1n),
    );
    refuses(
      () => pay(msats(MAX_BTC_MSATS + 1n)),
      'invalid_amount',
      /data.amount is more than 21,000,000 BTC/,
    );
  });
}

test('the fee cap left out is 1 %, rounded up, and at least the floor of its rail', () => {
  const cap = (amount: number) =>
    send('bolt11', { payment_request: invoice(null), amount: msats(amount) }).max_fee;
  assert.deepEqual([1, 100_000, 100_001, 1_000_000].map(cap), [1000n, 1000n, 1001n, 10_000n]);
  const onchain = (amount_sats: number) => send('onchain', { address: ADDRESS, amount_sats }).max_fee;
  assert.deepEqual([26_300, 26_301].map(onchain), [263_000n, 263_010n]);
  // Keeps the floor of Lightning where it ends on the chain.
  assert.equal(send('bip21', { address: ADDRESS, amount_sats: 1000 }).max_fee, 10_000n);
});

test('a fee cap that is given stands as it is: in bitcoin, from nothing to all that there is', () => {
  const cap = (max_fee: SendBody['data']['max_fee'] & object) =>
    send('bolt11', { payment_request: invoice(1000n), max_fee }).max_fee;
  assert.equal(cap(msats(0)), 0n);
  assert.equal(cap(msats(MAX_BTC_MSATS)), MAX_BTC_MSATS);
  refuses(() => cap({ currency: 'usd', amount: 1 }), 'invalid_currency', /data.max_fee.currency must be btc/);
  refuses(
    () => cap(msats(-1)),
    'invalid_max_fee',
    /data.max_fee is below/,
    below('data.max_fee', { amount: 1n, negative: true }, 0n),
  );
  refuses(() => cap(msats(MAX_BTC_MSATS + 1n)), 'invalid_amount', /data.max_fee is more than 21,000,000 BTC/);
});

test('a send is in the currency of its wallet, and a description says something', () => {
  const data = { address: ADDRESS, amount_sats: 1000 };
  refuses(() => send('onchain', data, { currency: 'usd' }), 'invalid_currency', /must be btc, the wallet's/);
  const extra = { code: 'too_short', context: { field: 'data.description', min_length: 1 } };
  refuses(
    () => send('onchain', { ...data, description: '' }),
    'invalid_description',
    /data.description must not be empty/,
    extra,
  );
});

test('a URI with an invoice is paid by Lightning, and keeps its address', () => {
  const payment_request = invoice(150_000n);
  const draft = {
    ...EMPTY,
    direction: 'send',
    kind: 'bip21',
    amount: 150_000n,
    max_fee: 1500n,
    payment_hash: HASH,
    payment_request,
    address: ADDRESS,
    description: 'coffee',
  };
  const uri = `bitcoin:${ADDRESS}?lightning=${payment_request}`;
  assert.deepEqual(send('bip21', { address: uri }), draft);
  assert.deepEqual(send('bip21', { address: `bitcoin:${ADDRESS}`, payment_request }), draft);
  assert.deepEqual(send('bip21', { address: `lightning:${payment_request}` }), { ...draft, address: null });
});

test('what a URI says wins over the fields beside it', () => {
  const other = invoice(1n);
  const payment_request = invoice(null);
  const address = `bitcoin:${ADDRESS}?amount=0.00001&label=rent&lightning=${payment_request}`;
  const draft = send('bip21', { address, payment_request: other, amount_msats: 1, description: 'food' });
  const { amount, description } = draft;
  assert.deepEqual([amount, description, draft.payment_request], [1_000_000n, 'rent', payment_request]);
  const beside = send('bip21', { address: ADDRESS, amount_msats: 294_000, description: 'food' });
  assert.deepEqual([beside.amount, beside.description, beside.address], [294_000n, 'food', ADDRESS]);
});

test('a URI is refused that is missing, cannot be read or names an address of another network', () => {
  const pay = (data: SendBody['data']) => () => send('bip21', data);
  for (const data of [{}, { address: '' }]) {
    refuses(pay(data), 'missing_address', /data.address is required/, required('data.address'));
  }
  refuses(
    pay({ address: ADDRESS, payment_request: '' }),
    'missing_payment_request',
    /data.payment_request is required/,
    required('data.payment_request'),
  );
  const whole = `bitcoin:${ADDRESS}?lightning=${invoice(1000n)}`;
  refuses(
    pay({ address: whole, payment_request: '' }),
    'missing_payment_request',
    /data.payment_request is required/,
    required('data.payment_request'),
  );
  refuses(pay({ address: `bitcoin:${ADDRESS}?amount=x` }), 'invalid_address', /data.address: amount must/);
  const payment_request = invoice(1000n);
  refuses(pay({ address: ELSEWHERE, payment_request }), 'invalid_network', /of mainnet/);
  const amount_required = required('data.amount');
  refuses(pay({ address: ADDRESS }), 'amount_required', /data.amount is required/, amount_required);
});

test('a receive asks for its amount for an hour, if it does not say otherwise', () => {
  const draft = { ...EMPTY, direction: 'receive', kind: 'bolt11', expiration: 3600 };
  assert.deepEqual(receive({}), draft);
  assert.deepEqual(receive({ amount: msats(1), currency: 'btc', expiration: 60, description: 'tea' }), {
    ...draft,
    amount: 1n,
    expiration: 60,
    description: 'tea',
  });
  const dollars = { amount: { currency: 'usd', amount: 7 } };
  assert.deepEqual(receive(dollars, 'usd'), { ...draft, requested: 7n });
  const onchain = receive({ ...dollars, payment_kind: 'onchain' }, 'usd');
  assert.deepEqual(onchain, { ...draft, kind: 'onchain', requested: 7n });
});

test('a receive needs an amount on the chain and in dollars', () => {
  for (const pay of [
    () => receive({ payment_kind: 'onchain' }),
    () => receive({}, 'usd'),
    () => receive({ payment_kind: 'bip21' }, 'usd'),
  ]) {
    refuses(pay, 'amount_required', /amount is required/, required('amount'));
  }
  assert.equal(receive({ payment_kind: 'bip21' }).amount, null);
});

test('a receive that an address may serve is whole sats; an address alone takes no dust', () => {
  const amount = msats(1001);
  assert.equal(receive({ amount }).amount, 1001n);
  for (const payment_kind of ['onchain', 'bip21'] as const) {
    refuses(() => receive({ payment_kind, amount }), 'invalid_amount', /amount must be whole sats/);
  }
  assert.equal(receive({ payment_kind: 'onchain', amount_sats: 294 }).amount, 294_000n);
  assert.equal(receive({ payment_kind: 'bip21', amount_sats: 1 }).amount, 1000n);
  refuses(
    () => receive({ payment_kind: 'onchain', amount_sats: 293 }),
    'invalid_on_chain_payment',
    /^amount is below the minimum of 294000 btc/,
    below('amount', { amount: 293_000n }, 294_000n),
  );
});

for (const [currency, other, most, too_much] of [
  ['btc', 'usd', MAX_BTC_MSATS, /amount is more than 21,000,000 BTC/],
  ['usd', 'btc', MAX_CENTS, /amount is too large/],
] as const) {
  test(`a wallet of ${currency} receives ${currency}, more than nothing and no more than there can be`, () => {
    const ask = (amount: number | bigint, of: string = currency) =>
      receive({ amount: { currency: of, amount } }, currency);
    const draft = ask(most);
    assert.equal(draft.requested ?? draft.amount, most);
    refuses(() => ask(most + 1n), 'invalid_amount', too_much);
    refuses(
      () => ask(0),
      'invalid_amount',
      /amount is below the minimum of 1/,
      below('amount', { amount: 0n }, 1n, currency),
    );
    refuses(() => ask(1, other), 'invalid_currency', new RegExp(`amount.currency must be ${currency}`));
    refuses(
      () => receive({ amount: { currency, amount: 1 }, currency: other }, currency),
      'invalid_currency',
      new RegExp(`currency must be ${currency}, the wallet's`),
    );
  });
}

test('a receive lives from a second to a day, and its description fits into an invoice: both are named at once', () => {
  for (const expiration of [1, 86_400, 86_400n]) {
    assert.equal(receive({ expiration }).expiration, Number(expiration));
  }
  assert.equal(receive({ description: 'é'.repeat(319) }).description?.length, 319);
  const refused = (fields: Partial<ReceiveBody>, named: string[]) =>
    refuses(
      () => receive(fields),
      'invalid_receive_payment',
      new RegExp(`^not acceptable: ${named.join(', ')}$`),
      { code: 'validation_failed', context: { fields: named } },
    );
  refused({ expiration: 0 }, ['expiration']);
  refused({ expiration: 86_401 }, ['expiration']);
  refused({ description: 'é'.repeat(320) }, ['description']);
  receive({ description: 'e'.repeat(639) });
  refused({ expiration: -1, description: 'e'.repeat(640) }, ['expiration', 'description']);
});
