import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock, type Clock } from '../src/core/clock.ts';
import { removeOld } from '../src/webhooks/retention.ts';
import { hooks } from './hooks.ts';
import { openReceiver, openServer } from './setup.ts';
import { GIVE_UP_MS } from './wait.ts';

const DAY_MS = 24 * 3_600_000;
let ahead_ms = 0;
const clock: Clock = { now: () => systemClock.now() + ahead_ms };

const { server, me } = await openServer({}, clock);
const my = hooks(server.client, me.base);
const receiver = await openReceiver();

/**
 * A registration that is stopped, and how to list its deliveries of one receive. It may have some of what was written
 * just before it, where transactions of other tests still held that back.
 */
async function queued() {
  const id = await my.register(receiver);
  await my.call('POST', `${my.path}/${id}/stop`);
  const payment = await me.receive();
  await me.sandbox('payments', { payment_request: payment.data.payment_request });
  const its = async () =>
    (await my.deliveries(id, '?sort_order=ASC&limit=100')).filter(
      ({ payload: { detail } }) => typeof detail.data === 'object' && detail.data.id === payment.id,
    );
  while ((await its()).length < 3) await new Promise((done) => setTimeout(done, 10));
  return { id, payment_id: payment.id, its };
}

test('an event has the time at which it happened, however old its payment is', async () => {
  const amount = { currency: 'btc', amount: 1_000_000 };
  const payment = await me.receive({ payment_kind: 'onchain', amount });
  const detected = async (): Promise<string | undefined> => {
    const [row] = await server.db.query<{ at: string }>(
      `SELECT at FROM events WHERE payment_id = $1 AND event = 'detected'`,
      [payment.id],
    );
    return row?.at;
  };
  await me.until(payment.id, ({ data }) => data.address !== undefined);
  ahead_ms = 40 * DAY_MS;
  await me.sandbox('payments', { address: payment.data.address, amount_msats: 1_000_000 });
  const give_up_at = Date.now() + GIVE_UP_MS;
  while ((await detected()) === undefined) {
    assert.ok(Date.now() < give_up_at, 'it is detected');
    await new Promise((done) => setTimeout(done, 10));
  }
  const at_ms = Date.parse((await detected()) ?? '');
  ahead_ms = 0;
  assert.ok(at_ms > Date.now() + 39 * DAY_MS, 'it is 40 days younger than its payment');
});

test('an event stays as long as there is a delivery that shows it', async () => {
  const { id, its } = await queued();
  await my.call('POST', `${my.path}/${id}/start`);
  while ((await its()).some(({ status }) => status !== 'succeeded'))
    await new Promise((done) => setTimeout(done, 10));
  await server.db.query(`UPDATE events SET at = '2000-01-01T00:00:00Z'`);
  await removeOld(server.db, '2010-01-01T00:00:00Z', new Date().toISOString());
  assert.deepEqual((await its()).map(({ payload }) => payload.detail.event).toSorted(), [
    'completed',
    'generated',
    'succeeded',
  ]);
  await my.call('DELETE', `${my.path}/${id}`);
});

test('a delivery whose event is gone is shown, fails for good with the reason, and holds nothing back', async () => {
  const { id, payment_id, its } = await queued();
  const [lost] = await its();
  assert.equal(lost?.payload.detail.event, 'generated');
  const all = async () => (await my.deliveries(id)).map((one) => one.id).toSorted();
  const known = await all();
  await server.db.query(
    'DELETE FROM events e USING webhook_deliveries d WHERE d.id = $1 AND e.horizon = d.horizon AND e.seq = d.seq',
    [lost.id],
  );
  assert.deepEqual(await all(), known);
  assert.equal((await my.delivery(id, lost.id)).id, lost.id);
  await my.call('POST', `${my.path}/${id}/start`);
  const failed = await my.until(id, lost.id, ({ status }) => status === 'failed');
  assert.equal(failed.error_info?.code, 'unexpected_error');
  assert.match(JSON.stringify(failed.error_info), /event/);
  await receiver.until(
    () =>
      receiver.received.filter(({ webhook_id, data }) => webhook_id === id && data.id === payment_id)
        .length === 2,
    'the others',
  );
  await my.call('POST', `${my.path}/${id}/deliveries/${lost.id}/retry`);
  await my.until(id, lost.id, ({ status }) => status === 'failed');
  await my.call('DELETE', `${my.path}/${id}`);
});
