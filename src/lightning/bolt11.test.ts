import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { amountOf, decodeInvoice, encodeInvoice, InvalidInvoice } from './bolt11.ts';
import { field, forgeInvoice, LETTERS } from '../../test/forge.ts';

// Examples of BOLT 11 (lightning/bolts, 11-payment-encoding.md), all signed by the same node.
const NODE = '03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad';
const HASH = '0001020304050607080900010203040506070809000102030405060708090102';
const COFFEE_BEANS =
  'lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqpqsq67gye39hfg3zd8rgc80k32tvy9xk2xunwm5lzexnvpx6fd77en8qaq424dxgt56cag2dpt359k3ssyhetktkpqh24jqnjyw6uqd08sgptq44qu';
const WITH_IGNORED_FIELDS =
  'lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqpqsq2qrqqqfppnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqppnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqpp4qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqhpnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqhp4qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqspnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqsp4qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqnp5qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqnpkqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq2jxxfsnucm4jf4zwtznpaxphce606fvhvje5x7d4gw7n73994hgs7nteqvenq8a4ml8aqtchv5d9pf7l558889hp4yyrqv6a7zpq9fgpskqhza';
const INVALID: Record<string, string> = {
  'unknown feature 100 is required':
    'lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q4psqqqqqqqqqqqqqqqpqsqq40wa3khl49yue3zsgm26jrepqr2eghqlx86rttutve3ugd05em86nsefzh4pfurpd9ek9w2vp95zxqnfe2u7ckudyahsa52q66tgzcp6t2dyk',
  'the checksum is wrong':
    'lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrnt',
  'there is no separator':
    'pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrny',
  'the case is mixed':
    'LNBC2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrny',
  'the signature is not recoverable':
    'lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuaxtrnwngzn3kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspk28uwq',
  'it is too short':
    'lnbc1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6na6hlh',
  'the multiplier is unknown':
    'lnbc2500x1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpujr6jxr9gq9pv6g46y7d20jfkegkg4gljz2ea2a3m9lmvvr95tq2s0kvu70u3axgelz3kyvtp2ywwt0y8hkx2869zq5dll9nelr83zzqqpgl2zg',
  'the amount is a fraction of an msat':
    'lnbc2500000001p1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu7hqtk93pkf7sw55rdv4k9z2vj050rxdr6za9ekfs3nlt5lr89jqpdmxsmlj9urqumg0h9wzpqecw7th56tdms40p2ny9q4ddvjsedzcplva53s',
  'it has no payment secret':
    'lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuaztrnwngzn3kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspfj9srp',
};

test("the specification's example decodes as it says, in either case", () => {
  for (const text of [COFFEE_BEANS, COFFEE_BEANS.toUpperCase()]) {
    const invoice = decodeInvoice(text);
    assert.equal(invoice.prefix, 'bc');
    assert.equal(invoice.amount_msats, 2_500_000_000n);
    assert.equal(invoice.payment_hash, HASH);
    assert.equal(invoice.payment_secret, '11'.repeat(32));
    assert.equal(invoice.description, 'coffee beans');
    assert.equal(invoice.created_at_ms, 1_496_314_658_000);
    assert.equal(invoice.expiry_seconds, 3600);
    assert.equal(invoice.payee_node, NODE);
  }
});

for (const [reason, text] of Object.entries(INVALID)) {
  test(`an invoice is refused when ${reason}`, () =>
    assert.throws(() => decodeInvoice(text), InvalidInvoice));
}

const private_key = randomBytes(32);
const fields = (over: object = {}) => ({
  prefix: 'tbs',
  amount_msats: 150_000n,
  payment_hash: randomBytes(32),
  payment_secret: randomBytes(32),
  description: 'Order 123',
  expiry_seconds: 3600,
  created_at_ms: 1_700_000_000_000,
  private_key,
  ...over,
});

const forge = (text: string, change: (words: number[]) => number[]) =>
  forgeInvoice(text, private_key, change);

test('threat 1: an invoice with a repeated p, s or d tag is refused', () => {
  const text = encodeInvoice(fields());
  assert.ok(decodeInvoice(forge(text, (words) => words)), 'the forger signs well');
  for (const [tag, length] of [
    ['p', 52],
    ['s', 52],
    ['d', 4],
  ] as const) {
    assert.throws(() => decodeInvoice(forge(text, (words) => [...words, ...field(tag, length)])), /repeated/);
    assert.throws(
      () =>
        decodeInvoice(
          forge(text, (words) => [...words.slice(0, 7), ...field(tag, length), ...words.slice(7)]),
        ),
      /repeated|stray/,
    );
  }
});

test('threat 1: a malformed p beside a good one is refused, wherever it stands', () => {
  const text = encodeInvoice(fields());
  for (const length of [51, 53]) {
    assert.throws(
      () =>
        decodeInvoice(
          forge(text, (words) => [...words.slice(0, 7), ...field('p', length), ...words.slice(7)]),
        ),
      InvalidInvoice,
    );
    assert.throws(
      () => decodeInvoice(forge(text, (words) => [...words, ...field('p', length)])),
      InvalidInvoice,
    );
  }
  assert.throws(() => decodeInvoice(WITH_IGNORED_FIELDS), InvalidInvoice);
});

test('any change of one letter is refused', () => {
  const text = encodeInvoice(fields());
  fc.assert(
    fc.property(
      fc.integer({ min: 6, max: text.length - 1 }),
      fc.constantFrom(...LETTERS.split('')),
      (index, letter) => {
        fc.pre(text[index] !== letter);
        assert.throws(
          () => decodeInvoice(text.slice(0, index) + letter + text.slice(index + 1)),
          InvalidInvoice,
        );
      },
    ),
  );
});

test('what is encoded is decoded: every amount, description and expiry', () => {
  const amounts = fc.oneof(fc.constant(null), fc.bigInt({ min: 1n, max: 2_100_000_000_000_000_000n }));
  fc.assert(
    fc.property(
      amounts,
      fc.string({ unit: 'grapheme', maxLength: 60 }),
      fc.integer({ min: 1, max: 31_536_000 }),
      fc.constantFrom('bc', 'tb', 'tbs', 'bcrt'),
      (amount_msats, description, expiry_seconds, prefix) => {
        const given = fields({ amount_msats, description, expiry_seconds, prefix });
        const read = decodeInvoice(encodeInvoice(given));
        assert.equal(read.amount_msats, amount_msats);
        assert.equal(amountOf(encodeInvoice(given)), amount_msats);
        assert.equal(read.description, description);
        assert.equal(read.expiry_seconds, expiry_seconds);
        assert.equal(read.prefix, prefix);
        assert.equal(read.payment_hash, given.payment_hash.toString('hex'));
      },
    ),
  );
});
