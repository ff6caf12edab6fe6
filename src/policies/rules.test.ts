import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readChange, type PolicyBody } from './rules.ts';
import { refuses } from '../../test/refusal.ts';

const MAX_UINT64 = 2n ** 64n - 1n;
const WALLET = 'a-wallet';
const read = (body: PolicyBody, has_sanctions_list = true) => {
  const { set, removed } = readChange(WALLET, body, has_sanctions_list);
  return { set: Object.fromEntries(set), removed };
};
const bound = (value: bigint) => ({ bound: value, send_bps: null, receive_bps: null });

for (const [field, type] of [
  ['max_payment_size_sats', 'max_payment_size'],
  ['transactions_per_minute', 'transaction_velocity'],
  ['send_volume_limit_sats', 'send_volume_limit'],
] as const) {
  test(`${field}: a number sets the bound exactly, null removes it, omitted keeps it`, () => {
    assert.deepEqual(read({ [field]: 0 }), { set: { [type]: bound(0n) }, removed: [] });
    assert.deepEqual(read({ [field]: MAX_UINT64 }), { set: { [type]: bound(MAX_UINT64) }, removed: [] });
    assert.deepEqual(read({ [field]: null }), { set: {}, removed: [type] });
    refuses(
      () => read({ [field]: MAX_UINT64 + 1n }),
      'invalid_data',
      new RegExp(`${field} must be at most 18446744073709551615`),
    );
  });
}

test('sanctions are checked by true, no more by false or null, and never without a list', () => {
  const content = { bound: null, send_bps: null, receive_bps: null };
  assert.deepEqual(read({ ofac_compliant: true }), { set: { ofac_compliant: content }, removed: [] });
  for (const off of [false, null]) {
    assert.deepEqual(read({ ofac_compliant: off }, false), { set: {}, removed: ['ofac_compliant'] });
  }
  refuses(() => read({ ofac_compliant: true }, false), 'invalid_parameter', /ofac_compliant: there is no/);
});

test('fee rates are set for both directions at once, and removed by null', () => {
  assert.deepEqual(read({ processing_fee: { send_basis_points: 25, receive_basis_points: 0n } }), {
    set: { processing_fee: { bound: null, send_bps: 25, receive_bps: 0 } },
    removed: [],
  });
  assert.deepEqual(read({ processing_fee: null }), { set: {}, removed: ['processing_fee'] });
});

test('policies are changed together; one that is not named stays as it is', () => {
  const change = read({ max_payment_size_sats: 7, transactions_per_minute: null, ofac_compliant: false });
  assert.deepEqual(change, {
    set: { max_payment_size: bound(7n) },
    removed: ['transaction_velocity', 'ofac_compliant'],
  });
});

test('a request that names no policy is refused, and so is a template: there are none', () => {
  refuses(() => read({}), 'no_updates_provided', /at least one policy/, { context: { wallet_id: WALLET } });
  refuses(() => read({ template_id: 'strict' }), 'invalid_parameter', /template_id: no template strict/);
  assert.deepEqual(read({ template_id: null }), { set: {}, removed: [] });
});
