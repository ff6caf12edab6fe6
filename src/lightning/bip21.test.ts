import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_BTC_MSATS } from '../core/money.ts';
import { CHAINS, checkAddress } from './address.ts';
import { formatBip21, InvalidUri, parseBip21 } from './bip21.ts';

const ADDRESS = 'bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh';

test('an amount of up to 8 decimals is read exactly', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2_100_000_000_000_000n }), (amount_sats) => {
      const uri = formatBip21({ address: ADDRESS, amount_sats });
      assert.equal(parseBip21(uri).amount_msats, amount_sats * 1000n);
    }),
  );
});

test('upper-case URIs, percent-encoding and label before message', () => {
  assert.deepEqual(parseBip21(`BITCOIN:${ADDRESS.toUpperCase()}?AMOUNT=0.0015&LABEL=Order%20123&MESSAGE=x`), {
    address: ADDRESS,
    amount_msats: 150_000_000n,
    description: 'Order 123',
  });
  assert.deepEqual(parseBip21(ADDRESS), { address: ADDRESS });
});

test('a lightning: URI is its invoice, with or without slashes', () => {
  for (const text of ['lightning:lnbc1x', 'LIGHTNING:lnbc1x', 'lightning://lnbc1x']) {
    assert.deepEqual(parseBip21(text), { payment_request: 'lnbc1x' });
  }
  assert.deepEqual(parseBip21('lightning:'), { payment_request: '' });
});

test('a URI offers an address, an invoice or both; the first description that says something counts', () => {
  const read = (rest: string) => parseBip21(`bitcoin:${rest}`);
  assert.deepEqual(read(`${ADDRESS}?lightning=lnbc1x`), { address: ADDRESS, payment_request: 'lnbc1x' });
  assert.deepEqual(read('?lightning=lnbc1x'), { payment_request: 'lnbc1x' });
  assert.deepEqual(read(`${ADDRESS}?lightning=&label=`), { address: ADDRESS });
  assert.deepEqual(read(`${ADDRESS}?message=tea`), { address: ADDRESS, description: 'tea' });
  assert.deepEqual(read(`${ADDRESS}?label=a=b?c&message=tea`), { address: ADDRESS, description: 'a=b?c' });
  assert.deepEqual(read(`${ADDRESS}?&&amount=21000000&lightning`), {
    address: ADDRESS,
    amount_msats: MAX_BTC_MSATS,
  });
  // An address may be written in percent-encoding, too.
  assert.deepEqual(read(`%62${ADDRESS.slice(1)}`), { address: ADDRESS });
});

test('only an address that is bech32 throughout is turned into lower case', () => {
  for (const address of ['1XBC1QABC', 'BC1QAbC', 'bC1QABC', 'BC1', 'BC1Q-A']) {
    assert.deepEqual(parseBip21(address), { address });
  }
  for (const prefix of ['BC', 'TB', 'BCRT']) {
    assert.deepEqual(parseBip21(`${prefix}1Q09AZ`), { address: `${prefix.toLowerCase()}1q09az` });
  }
});

test('what is neither a URI nor an address, or too long, is refused', () => {
  for (const text of ['web+bitcoin:x', 'xlightning:x', 'a b', 'a?b', 'a&b', 'a=b', 'http://x']) {
    assert.throws(() => parseBip21(text), /neither a bitcoin: URI nor an address/);
  }
  for (const text of ['bitcoin:', 'bitcoin:?amount=1', 'bitcoin:?lightning=']) {
    assert.throws(() => parseBip21(text), /no address/);
  }
  assert.equal(parseBip21('x'.repeat(8192)).address?.length, 8192);
  assert.throws(() => parseBip21('x'.repeat(8193)), /too long/);
});

for (const [query, says] of [
  ['amount=1e-3', /decimal number/],
  ['amount=-1', /decimal number/],
  ['amount=+1', /decimal number/],
  ['amount=1,5', /decimal number/],
  ['amount=.5', /decimal number/],
  ['amount=1.', /decimal number/],
  ['amount=x1', /decimal number/],
  ['amount=0.123456789', /decimal number/],
  ['amount=99999999', /above 21,000,000/],
  ['amount=100000000', /decimal number/],
  ['amount=21000000.00000001', /above 21,000,000/],
  ['amount=', /decimal number/],
  ['amount=1&amount=1', /amount is given twice/],
  ['amount=1&AMOUNT=2', /amount is given twice/],
  ['req-somethingyoudontunderstand=50', /req-somethingyoudontunderstand is required/],
  ['label=%E0%A4%A', /percent-encoding/],
  ['%=1', /percent-encoding/],
] as const) {
  test(`a URI with ${query} is refused`, () =>
    assert.throws(
      () => parseBip21(`bitcoin:${ADDRESS}?${query}`),
      (error) => error instanceof InvalidUri && says.test(error.message),
    ));
}

test('a URI is written with what there is, its amount in BTC without trailing zeros', () => {
  const write = (fields: object) => formatBip21({ address: ADDRESS, ...fields });
  assert.equal(write({}), `bitcoin:${ADDRESS}`);
  assert.equal(write({ label: '' }), `bitcoin:${ADDRESS}`);
  for (const [amount_sats, text] of [
    [0n, '0'],
    [1n, '0.00000001'],
    [150_000n, '0.0015'],
    [100_000_000n, '1'],
    [2_100_000_000_000_000n, '21000000'],
  ] as const) {
    assert.equal(write({ amount_sats }), `bitcoin:${ADDRESS}?amount=${text}`);
  }
  assert.equal(
    write({ amount_sats: 1n, invoice: 'lnbc1x', label: 'tea & cake' }),
    `bitcoin:${ADDRESS}?amount=0.00000001&label=tea%20%26%20cake&lightning=lnbc1x`,
  );
});

test('an unknown parameter that is not required is ignored', () => {
  assert.deepEqual(parseBip21(`bitcoin:${ADDRESS}?somethingyoudontunderstand=50`), { address: ADDRESS });
});

test('addresses are held against their chain, checksum and witness version', () => {
  const own = checkAddress(ADDRESS, CHAINS.mainnet);
  assert.ok(own.ok);
  assert.equal(own.dust_sats, 294n);
  const fault = (address: string, chain: (typeof CHAINS)[keyof typeof CHAINS] = CHAINS.mainnet) => {
    const checked = checkAddress(address, chain);
    return checked.ok ? null : checked.fault;
  };
  assert.equal(fault(ADDRESS, CHAINS.mutinynet), 'invalid_network');
  assert.equal(fault('1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2'), null);
  assert.equal(fault('1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2', CHAINS.testnet), 'invalid_network');
  assert.equal(fault('1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3'), 'invalid_address');
  // BIP 350: a version 1 program with a bech32 checksum, and a version 0 program with a bech32m one.
  assert.equal(fault('bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd'), 'invalid_address');
  assert.equal(fault('bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh'), 'invalid_address');
  assert.equal(fault('bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0'), null);
  assert.equal(fault('BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7Kv8f3t4'), 'invalid_address');
  assert.equal(fault('bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs'), 'invalid_address');
});
