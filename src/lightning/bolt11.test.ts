import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { bech32 } from '@scure/base';
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

// Words that make a field, and where fields begin: behind the timestamp.
const tagged = (tag: string, words: number[]) => [
  LETTERS.indexOf(tag),
  words.length >> 5,
  words.length & 31,
  ...words,
];
const FIRST = 7;
const with_field = (text: string, tag: string, words: number[]) =>
  forge(text, (data) => [...data, ...tagged(tag, words)]);
/** The same invoice without the fields of these tags. */
const without = (text: string, ...tags: string[]) =>
  forge(text, (data) => {
    const kept = data.slice(0, FIRST);
    for (let at = FIRST; at < data.length;) {
      const to = at + 3 + (data[at + 1] ?? 0) * 32 + (data[at + 2] ?? 0);
      if (!tags.includes(LETTERS.charAt(data[at] ?? 0))) kept.push(...data.slice(at, to));
      at = to;
    }
    return kept;
  });

test('what an invoice leaves out has the default of the specification', () => {
  const text = without(encodeInvoice(fields()), 'x', 'c', '9');
  const { expiry_seconds, expires_at_ms, min_final_cltv_expiry } = decodeInvoice(text);
  assert.deepEqual([expiry_seconds, min_final_cltv_expiry], [3600, 18]);
  assert.equal(expires_at_ms, 1_700_003_600_000);
  assert.equal(decodeInvoice(encodeInvoice(fields())).min_final_cltv_expiry, 40);
});

test('an invoice is refused without a hash, a secret or any description, and in pieces', () => {
  const text = encodeInvoice(fields());
  assert.throws(() => decodeInvoice(without(text, 'p')), /no payment hash/);
  assert.throws(() => decodeInvoice(without(text, 's')), /no payment secret/);
  assert.throws(() => decodeInvoice(without(text, 'd')), /no description/);
  assert.throws(() => decodeInvoice(forge(text, (data) => data.slice(0, FIRST))), /no payment hash/);
  assert.throws(() => decodeInvoice(forge(text, (data) => data.slice(0, FIRST - 1))), /too short/);
  assert.throws(() => decodeInvoice(bech32.encode('lntbs', [1, 2, 3], false)), /too short/);
  for (const cut of [1, 2, 3, 4]) {
    const [tag = 0] = tagged('x', []);
    const cut_off = forge(text, (data) => [...data, ...[tag, 0, 2, 1, 1].slice(0, cut)]);
    assert.throws(() => decodeInvoice(cut_off), /field x is cut off/);
  }
});

test('threat 1: a field that may stand once is refused where it is repeated, others may stand again', () => {
  const text = encodeInvoice(fields());
  for (const tag of ['p', 's', 'd', 'x', 'c', '9']) {
    assert.throws(() => decodeInvoice(with_field(text, tag, [])), new RegExp(`field ${tag} is repeated`));
  }
  const hash = bech32.toWords(Buffer.alloc(32, 7));
  assert.throws(
    () => decodeInvoice(with_field(with_field(text, 'h', hash), 'h', hash)),
    /field h is repeated/,
  );
  const named = with_field(text, 'n', bech32.toWords(decodeNode(text)));
  assert.throws(
    () => decodeInvoice(with_field(named, 'n', bech32.toWords(decodeNode(text)))),
    /field n is repeated/,
  );
  const routed = with_field(with_field(text, 'r', [1, 2]), 'r', [1, 2]);
  assert.equal(decodeInvoice(routed).description, 'Order 123');
});
const decodeNode = (text: string) => Buffer.from(decodeInvoice(text).payee_node, 'hex');

test('a hash may stand for the description', () => {
  const hash = Buffer.alloc(32, 7);
  const text = with_field(without(encodeInvoice(fields()), 'd'), 'h', bech32.toWords(hash));
  const { description, description_hash } = decodeInvoice(text);
  assert.deepEqual([description, description_hash], [undefined, hash.toString('hex')]);
  assert.equal(decodeInvoice(encodeInvoice(fields())).description_hash, undefined);
});

test('threat 1: p and s of another length are refused, h and n of another length say nothing', () => {
  const text = encodeInvoice(fields());
  for (const tag of ['p', 's']) {
    const short = with_field(without(text, tag), tag, bech32.toWords(Buffer.alloc(31)));
    assert.throws(() => decodeInvoice(short), new RegExp(`field ${tag} has the wrong length`));
  }
  for (const tag of ['h', 'n']) {
    const read = decodeInvoice(with_field(text, tag, [1, 2, 3]));
    assert.equal(read.description_hash, undefined);
    // It may stand again, since the first was skipped.
    decodeInvoice(with_field(with_field(text, tag, [1, 2, 3]), tag, [1, 2, 3]));
  }
});

test('threat 1: bits behind the last whole byte of a field are refused', () => {
  const text = encodeInvoice(fields());
  const words = bech32.toWords(Buffer.alloc(32, 7));
  const stray = [...words.slice(0, -1), (words.at(-1) ?? 0) | 1];
  for (const tag of ['p', 's']) {
    const strayed = with_field(without(text, tag), tag, stray);
    assert.throws(() => decodeInvoice(strayed), new RegExp(`field ${tag} has stray bits`));
  }
  for (const description of [[1], [0], [0, 0, 0]]) {
    const strayed = with_field(without(text, 'd'), 'd', description);
    assert.throws(() => decodeInvoice(strayed), /field d has stray bits/);
  }
});

test('an invoice that names its payee is signed by it', () => {
  const text = encodeInvoice(fields());
  const node = decodeNode(text);
  assert.equal(decodeInvoice(with_field(text, 'n', bech32.toWords(node))).payee_node, node.toString('hex'));
  const other = bech32.toWords(Buffer.concat([Buffer.of(2), Buffer.alloc(32, 9)]));
  assert.throws(() => decodeInvoice(with_field(text, 'n', other)), /not signed by the node it names/);
});

test('threat 1: a feature that is required and not known here is refused, an optional or known one is not', () => {
  const text = without(encodeInvoice(fields()), '9');
  const decode = (...bits: number[]) => {
    const words: number[] = Array.from({ length: 60 }, () => 0);
    for (const bit of bits) words[59 - Math.floor(bit / 5)] = 1 << (bit % 5);
    return () => decodeInvoice(with_field(text, '9', words));
  };
  for (const bit of [8, 14, 16, 24, 48, 262]) decode(bit)();
  for (const bit of [0, 2, 10, 100, 256, 298]) {
    assert.throws(decode(bit), new RegExp(`feature ${bit} is required and unknown`));
    decode(bit + 1)();
  }
});

test('an invoice of another coin, of no whole msats or above all bitcoin is refused', () => {
  const decode = (prefix: string) => () =>
    decodeInvoice(encodeInvoice(fields({ prefix, amount_msats: null })));
  for (const prefix of ['', 'b', 'ltc', 'bcx', 'bc0', 'bc01u', 'bc1x', 'bc1uu', 'xbc', 'bcu']) {
    assert.throws(decode(prefix), /unknown prefix or amount/, prefix);
  }
  const { words } = bech32.decode(encodeInvoice(fields()) as `${string}1${string}`, false);
  assert.throws(() => decodeInvoice(bech32.encode('xlntbs', words, false)), /unknown prefix or amount/);
  const amount = (text: string) => decode(`bc${text}`)().amount_msats;
  assert.equal(amount('21000000'), 2_100_000_000_000_000_000n);
  assert.equal(amount('10p'), 1n);
  assert.throws(decode('bc21000001'), /above 21,000,000 BTC/);
  assert.throws(decode(`bc${'9'.repeat(30)}`), /above 21,000,000 BTC/);
  assert.throws(decode('bc11p'), /no whole number of msats/);
});

test('an invoice of any time is as long as it must be', () => {
  const made = encodeInvoice(fields({ created_at_ms: 1000 }));
  assert.equal(decodeInvoice(made).created_at_ms, 1000);
});

test('an amount is written the shortest way', () => {
  for (const [amount_msats, text] of [
    [1n, '10p'],
    [100n, '1n'],
    [100_000n, '1u'],
    [150_000_000n, '1500u'],
    [100_000_000n, '1m'],
    [100_000_000_000n, '1'],
    [200_000_000_000n, '2'],
  ] as const) {
    assert.match(encodeInvoice(fields({ amount_msats })), new RegExp(`^lntbs${text}1p`));
  }
});

test('an invoice is read in upper or lower case, not in both, and up to a bound of its length', () => {
  const text = encodeInvoice(fields());
  assert.throws(() => decodeInvoice(`LN${text.slice(2)}`), /not bech32/);
  const longest = (length: number) => {
    const long = without(text, 'd');
    // A field has three words before its content, and there is room for no more than 1023 in one.
    const extra = length - long.length;
    const parts = Array.from({ length: Math.ceil(extra / 1000) }, (_, part) =>
      Math.min(1000, extra - part * 1000),
    );
    return parts.reduce(
      (grown, part) =>
        with_field(
          grown,
          'r',
          Array.from({ length: part - 3 }, () => 0),
        ),
      long,
    );
  };
  const described = (length: number) => with_field(longest(length - 3), 'd', []);
  assert.equal(described(7089).length, 7089);
  assert.equal(decodeInvoice(described(7089)).description, '');
  assert.throws(() => decodeInvoice(described(7090)), /too long/);
});

test('a signature is of a known kind and signs the invoice', () => {
  const { prefix, words } = bech32.decode(encodeInvoice(fields()) as `${string}1${string}`, false);
  const signed = (recovery: number, first: number) => {
    const signature = bech32.fromWords(words.slice(-104));
    signature[64] = recovery;
    signature.fill(first, 0, 32);
    return bech32.encode(prefix, [...words.slice(0, -104), ...bech32.toWords(signature)], false);
  };
  for (const recovery of [4, 255]) {
    assert.throws(() => decodeInvoice(signed(recovery, 1)), /signature is not valid/);
  }
  assert.throws(() => decodeInvoice(signed(0, 255)), /signature is not valid/);
});

test('an invoice offers what a payer needs: onions of variable size and a secret required, parts optional', () => {
  // Four words in field 9: bits 8, 14 and 17.
  assert.match(encodeInvoice(fields()), /9qyysgq/);
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
