import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expireCommand } from './receive.ts';
import type { Payment } from './types.ts';
import type { Work } from './work.ts';

const REF = { organization_id: 'o', environment_id: 'e', id: 'p' };
const AT = '2026-01-01T00:10:00.000000Z';
const MINED_AT = Date.parse('2026-01-01T00:06:00Z') / 1000;

/** The job that an expiry leaves behind, of a receive whose one output is in suspense. */
function jobAfterExpiry(quote_ends: string): unknown[] {
  const receipt = {
    type: 'onchain',
    amount_sats: 15_385,
    ledger_id: null,
    pending: false,
    mined_at: MINED_AT,
  };
  const payment = {
    ...REF,
    state: 'receiving',
    updated_at: AT,
    suspended: 15_385_000n,
    quote: { expires_at: quote_ends },
    receipts: [receipt],
  } as unknown as Payment;
  const jobs: unknown[] = [];
  const work = {
    outputs: [],
    payment: () => payment,
    move: (moved: Payment, state: Payment['state']) => void (moved.state = state),
    job: (_payment: Payment, kind: string, run_at: string) => jobs.push(kind, run_at),
  } as unknown as Work;
  assert.equal(expireCommand(REF, AT).decide(work), true);
  return jobs;
}

test('a receive that expires while late money waits has it exchanged at once, as it would have been', () => {
  assert.deepEqual(jobAfterExpiry('2026-01-01T00:05:00Z'), ['exchange', AT]);
});

test('what waits because it is less than a cent is tried again an hour after the receive expired', () => {
  assert.deepEqual(jobAfterExpiry('2026-01-01T00:07:00Z'), ['exchange', '2026-01-01T01:10:00.000000Z']);
});
