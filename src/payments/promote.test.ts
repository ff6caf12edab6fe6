import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NewPayment } from './create.ts';
import { mayPromote, promote, targetRef } from './promote.ts';
import type { Terms } from './terms.ts';
import type { Payment } from './types.ts';
import type { Work } from './work.ts';

const CHECK = {
  state: 'checked',
  wallet_id: 'wallet',
  kind: 'bip21',
  payment_hash: 'hash',
  payment_request: 'invoice',
  address: 'address',
  amount: 1000n,
  max_fee: 10n,
  description: 'tea',
  quote_id: null,
  metadata: { a: '1' },
} as unknown as Payment;
const DRAFT = {
  direction: 'send',
  kind: 'bip21',
  payment_hash: 'hash',
  payment_request: 'invoice',
  address: 'address',
  amount: 1000n,
  max_fee: 10n,
  description: 'tea',
};
const request = (draft: object = {}, fields: object = {}): NewPayment =>
  ({
    endpoint: 'payments',
    wallet: { id: 'wallet' },
    draft: { ...DRAFT, ...draft },
    metadata: null,
    gives_max_fee: true,
    target: null,
    ...fields,
  }) as unknown as NewPayment;

test('a request for exactly what was checked makes it a payment; what it leaves out is as the check has it', () => {
  assert.ok(mayPromote(CHECK, request()));
  assert.ok(mayPromote(CHECK, request({ description: null })));
  assert.ok(mayPromote(CHECK, request({ max_fee: 99n }, { gives_max_fee: false })));
});

for (const [what, check, draft, fields] of [
  ['another wallet', {}, {}, { wallet: { id: 'other' } }],
  ['another kind', {}, { kind: 'bolt11' }, {}],
  ['another hash', {}, { payment_hash: 'other' }, {}],
  ['another invoice', {}, { payment_request: 'other' }, {}],
  ['another address', {}, { address: 'other' }, {}],
  ['another amount', {}, { amount: 999n }, {}],
  ['another fee cap', {}, { max_fee: 9n }, {}],
  ['another description', {}, { description: 'cake' }, {}],
  ['a receive', {}, { direction: 'receive' }, {}],
  ['a treasury movement', {}, {}, { endpoint: 'treasury' }],
  ['another check', {}, {}, { endpoint: 'check' }],
  ['what is no check any more', { state: 'approved' }, {}, {}],
  ['a check that has used up a quote', { quote_id: 'quote' }, {}, {}],
] as const) {
  test(`${what} is not what was checked`, () => {
    assert.equal(mayPromote({ ...CHECK, ...check } as Payment, request(draft, fields)), false);
  });
}

test('a promoted check takes the quote of its terms, the receive that it pays, and metadata if there is some', () => {
  const promoted: Payment[] = [];
  const work = { promote: (payment: Payment) => promoted.push(payment) } as unknown as Work;
  const target = { organization_id: 'o', environment_id: 'e', id: 't', node_id: 'n', more: 'facts' };
  const terms = { quote_id: 'quote', quote: { rate: '1e0' } } as unknown as Terms;
  const check = { ...CHECK };
  assert.equal(promote(work, check, request({}, { target }), terms), check);
  assert.deepEqual(promoted, [check]);
  assert.deepEqual(check, {
    ...CHECK,
    quote_id: 'quote',
    quote: { rate: '1e0' },
    target: { organization_id: 'o', environment_id: 'e', id: 't', node_id: 'n' },
  });
  const noted = promote(work, { ...CHECK }, request({}, { metadata: { b: '2' } }), terms);
  assert.deepEqual([noted.metadata, noted.target], [{ b: '2' }, null]);
  assert.equal(targetRef(request()), null);
});
