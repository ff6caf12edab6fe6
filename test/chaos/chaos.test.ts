import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tools } from '../regtest/network.ts';
import { runChaos } from './chaos.ts';

const found = await tools;
const skip = 'missing' in found ? found.missing : false;
// The soak is `npm run chaos`; this is long enough for every kind of payment and some kinds of fault.
const SECONDS = 40;
const SEED = 4;

test('whatever breaks, every payment ends once as the node says and no msat differs', { skip }, async (t) => {
  const { payments, faults, drift } = await runChaos({
    seed: SEED,
    seconds: SECONDS,
    say: (line) => t.diagnostic(line),
  });
  assert.equal(drift, 0n);
  assert.ok(payments > 50, `${payments} payments were tried`);
  assert.ok(faults.size > 3, `${faults.size} kinds of fault`);
});
