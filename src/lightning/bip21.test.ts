import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
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
  assert.deepEqual(parseBip21('lightning:LNBC1X'), { payment_request: 'LNBC1X' });
});

for (const query of [
  'amount=1e-3',
  'amount=-1',
  'amount=+1',
  'amount=1,5',
  'amount=.5',
  'amount=0.123456789',
  'amount=21000000.00000001',
  'amount=',
  'amount=1&amount=1',
  'amount=1&AMOUNT=2',
  'req-somethingyoudontunderstand=50',
  'label=%E0%A4%A',
]) {
  test(`a URI with ${query} is refused`, () =>
    assert.throws(() => parseBip21(`bitcoin:${ADDRESS}?${query}`), InvalidUri));
}

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
