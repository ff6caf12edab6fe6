import assert from 'node:assert/strict';
import { test } from 'node:test';
import { storm } from './storm.ts';

// The long one: COULOMB_STORM=834 npx node test/run.ts test/storm.test.ts makes 10,008 deliveries.
const PAYMENTS = Number(process.env['COULOMB_STORM'] ?? 60);

test('threat 14: two servers killed in turn, receivers up, flapping, slow and down: nothing is lost or out of order', async () => {
  const result = await storm(PAYMENTS);
  assert.ok(result.kills > 0, 'servers were killed');
  assert.equal(result.events, PAYMENTS * 3, 'each event is written once');
  assert.equal(result.out_of_order, 0);
  process.stdout.write(`${JSON.stringify(result)}\n`);
});

test('two servers share the deliveries of one registration', async () => {
  const { attempts, repeated, out_of_order } = await storm(60, ['up'], false);
  assert.ok(
    attempts.length === 2 && attempts.every((count) => count > 0),
    `both send: ${attempts.join(' and ')}`,
  );
  assert.deepEqual([repeated, out_of_order], [0, 0]);
});
