import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countedSend, refusedReceive, refusedSend, type Limits, type Recipient } from './limits.ts';
import type { Payment } from './types.ts';

const NONE: Limits = { max_payment: null, sends_per_minute: null, send_volume: null, ofac_compliant: false };
const send = (
  fields: Partial<Limits>,
  { amount = 1000n, sends = 0n, volume = 0n, to = 'unlisted' as Recipient } = {},
) => refusedSend(amount, { ...NONE, ...fields }, { sends, volume }, to);

test('a wallet without policies sends anything to anybody', () => {
  for (const to of ['unlisted', 'sanctioned', 'unknown'] as const) {
    assert.equal(send({}, { amount: 2n ** 64n, sends: 1000n, volume: 2n ** 64n, to }), null);
  }
});

const BOUNDS: [
  policy: string,
  last: ReturnType<typeof send>,
  beyond: ReturnType<typeof send>,
  says: RegExp,
][] = [
  [
    'the size of one payment',
    send({ max_payment: 1000n }),
    send({ max_payment: 1000n }, { amount: 1001n }),
    /maximum for one payment/,
  ],
  [
    'sends in a minute',
    send({ sends_per_minute: 2n }, { sends: 1n }),
    send({ sends_per_minute: 2n }, { sends: 2n }),
    /in the last minute/,
  ],
  [
    'the volume of a day',
    send({ send_volume: 5000n }, { volume: 4000n }),
    send({ send_volume: 5000n }, { volume: 4001n }),
    /in 24 hours/,
  ],
];
for (const [policy, last, beyond, says] of BOUNDS) {
  test(`a policy for ${policy} takes exactly what it says and refuses one more`, () => {
    assert.equal(last, null);
    assert.equal(beyond?.type, 'rejected');
    assert.match(beyond.detail, new RegExp(`^refused by policy: .*${says.source}`));
  });
}

test('a wallet that must not pay listed addresses pays none that is listed, or that cannot be looked up', () => {
  assert.equal(send({ ofac_compliant: true }), null);
  assert.match(
    send({ ofac_compliant: true }, { to: 'sanctioned' })?.detail ?? '',
    /is on the sanctions list/,
  );
  assert.match(send({ ofac_compliant: true }, { to: 'unknown' })?.detail ?? '', /there is no sanctions list/);
});

test('a receive is bound by the size of one payment alone, and by nothing where it takes any amount', () => {
  const limits = { max_payment: 1000n, sends_per_minute: 0n, send_volume: 0n, ofac_compliant: true };
  assert.equal(refusedReceive(1000n, limits), null);
  assert.equal(refusedReceive(null, limits), null);
  assert.equal(refusedReceive(1001n, { ...limits, max_payment: null }), null);
  assert.deepEqual(refusedReceive(1001n, limits), {
    type: 'receive_failed',
    code: 'rejected',
    detail: "refused by policy: the amount is above the wallet's maximum for one payment",
  });
});

test('a send counts for its wallet from when it was held: a check from its promotion', () => {
  const payment = {
    organization_id: 'o',
    environment_id: 'e',
    id: 'p',
    wallet_id: 'w',
    created_at: 'made',
    promoted_at: null,
    amount: 5n,
  } as Payment;
  assert.deepEqual(countedSend(payment), { organization_id: 'o', id: 'w', held_at: 'made', amount: 5n });
  assert.equal(countedSend({ ...payment, promoted_at: 'promoted' }).held_at, 'promoted');
});
