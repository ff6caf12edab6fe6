import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rowsParameter } from '../core/db.ts';
import { storedPayment } from './stored.ts';

test('a payment comes back from its event as it was: large amounts exact, what is null null', () => {
  const payment = {
    id: '7cc5a4a8-4c0f-4a3e-9d0f-6a1f0f1f0f1f',
    amount: 2n ** 63n - 1n,
    max_fee: null,
    network_fee: 0n,
    processing_fee: 1n,
    requested: null,
    payable: 9_007_199_254_740_993n,
    received: 0n,
    suspended: 0n,
    gross: 0n,
    credited: 0n,
    hold_amount: null,
    node_index: null,
    fee_bps: 25,
    metadata: { order: '42' },
    created_at: '2026-01-01T00:00:00.000001Z',
  };
  // Written as one of many rows.
  const text = rowsParameter([payment]).slice(1, -1);
  assert.deepEqual(storedPayment(text), payment);
});
