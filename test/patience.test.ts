import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { systemClock, type Clock } from '../src/core/clock.ts';
import { hooks } from './hooks.ts';
import { openReceiver, openServer } from './setup.ts';
import { eventually } from './wait.ts';

const HOUR_MS = 3_600_000;
let ahead_ms = 0;
const clock: Clock = { now: () => systemClock.now() + ahead_ms };

const { server, me } = await openServer({}, clock);
const my = hooks(server.client, me.base);
const receiver = await openReceiver();

const EVENTS = [{ test: 'created' }];
const NOBODY = 'http://127.0.0.1:9/';
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));
async function sendTest(webhook: string): Promise<string> {
  const delivery_id = randomUUID();
  const payload = { type: 'test', detail: { event: 'created', data: 'hello' } };
  await my.call('POST', `${my.path}/${webhook}/test`, { delivery_id, payload });
  return delivery_id;
}
/** Sends one that fails at its first attempt. */
async function fail(webhook: string): Promise<string> {
  const id = await sendTest(webhook);
  await my.until(webhook, id, ({ attempt_count }) => attempt_count > 0);
  return id;
}

/** Waits until it is written down that the receiver fails now: that comes after the attempt, and has its own time. */
const noted = (webhook: string): Promise<void> =>
  eventually(async () => {
    const [row] = await server.db.query<{ failing_at: string | null }>(
      'SELECT failing_at FROM webhooks WHERE id = $1',
      [webhook],
    );
    assert.ok(clock.now() - Date.parse(row?.failing_at ?? '1970-01-01T00:00:00Z') < HOUR_MS, 'it is noted');
  });

test('a registration of which only failures come for too long is stopped, and says so', async () => {
  const id = await my.register(receiver, EVENTS, NOBODY);
  for (let hours = 0; hours <= 76; hours += 4) {
    ahead_ms = hours * HOUR_MS;
    await sendTest(id);
    if (hours >= 72) continue;
    await noted(id);
    assert.equal((await my.get(id))['status'], 'active');
  }
  await eventually(async () => assert.equal((await my.get(id))['status'], 'stopped'));
  assert.notEqual((await my.get(id))['stopped_at'], null);
  const metrics = await (await fetch(server.base_url.replace('/v1', '/metrics'))).text();
  assert.match(metrics, /^coulomb_webhooks\{status="stopped"\} [1-9]/m);
  await my.call('PATCH', `${my.path}/${id}`, { url: receiver.url, events: EVENTS });
  await my.call('POST', `${my.path}/${id}/start`);
  assert.equal((await my.get(id))['stopped_at'], null);
  await my.call('DELETE', `${my.path}/${id}`);
});

test('a time in which nothing was attempted is no time of failures: it stops nobody', async () => {
  const id = await my.register(receiver, EVENTS, NOBODY);
  const first = await fail(id);
  await my.call('POST', `${my.path}/${id}/deliveries/${first}/abandon`);
  ahead_ms += 80 * HOUR_MS;
  await fail(id);
  await fail(id);
  assert.equal((await my.get(id))['status'], 'active');
  await my.call('DELETE', `${my.path}/${id}`);
});

test('the time in which a registration was stopped takes no attempt from its deliveries', async () => {
  const id = await my.register(receiver, EVENTS, NOBODY);
  const attempted = await fail(id);
  await my.call('POST', `${my.path}/${id}/stop`);
  const waiting = await sendTest(id);
  ahead_ms += 30 * HOUR_MS;
  const before_it = (await my.delivery(id, attempted)).attempt_count;
  await my.call('POST', `${my.path}/${id}/start`);
  for (const [delivery, count] of [
    [attempted, before_it],
    [waiting, 0],
  ] as const) {
    const shown = await my.until(id, delivery, ({ attempt_count }) => attempt_count > count);
    assert.equal(shown.status, 'attempting');
    await my.until(id, delivery, ({ attempt_count }) => attempt_count > count + 1);
  }
  await my.call('DELETE', `${my.path}/${id}`);
});

test('what the database does not record is not sent again and again: the pauses grow, and it goes on by itself', async () => {
  ahead_ms = 0;
  const id = await my.register(receiver, EVENTS);
  await server.db.query(`CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$`);
  await server.db.query(
    `CREATE TRIGGER disk_full BEFORE UPDATE OF attempt_count ON webhook_deliveries EXECUTE FUNCTION disk_full()`,
  );
  const delivery = await sendTest(id);
  const sent = () =>
    receiver.requests.filter(({ headers }) => headers['x-voltage-delivery-id'] === delivery).length;
  await receiver.until(() => sent() > 1, 'it is sent again');
  await pause(3000);
  const times = sent();
  await server.db.query('DROP TRIGGER disk_full ON webhook_deliveries');
  assert.ok(times <= 8, `${times} times`);
  await my.until(id, delivery, ({ status }) => status === 'succeeded');
  await my.call('DELETE', `${my.path}/${id}`);
});

test('a delivery that is abandoned while it waits behind others is not sent any more', async () => {
  const id = await my.register(receiver, EVENTS);
  const held: (() => void)[] = [];
  let holding = true;
  receiver.behave = (_request, response) => {
    const answer = () => void response.writeHead(200).end();
    if (holding) held.push(answer);
    else answer();
    return true;
  };
  const deliveries: string[] = [];
  for (let index = 0; index < 40; index += 1) deliveries.push(await sendTest(id));
  await receiver.until(() => held.length === 32, 'as many as are sent at once');
  const asked = () => receiver.requests.map(({ headers }) => String(headers['x-voltage-delivery-id']));
  const waiting = deliveries.filter((delivery) => !asked().includes(delivery));
  const [abandoned = '', ...others] = waiting;
  await pause(500);
  await my.call('POST', `${my.path}/${id}/deliveries/${abandoned}/abandon`);
  await pause(500);
  holding = false;
  for (const answer of held) answer();
  for (const delivery of others) await my.until(id, delivery, ({ status }) => status === 'succeeded');
  receiver.behave = null;
  assert.ok(!asked().includes(abandoned));
  assert.equal((await my.delivery(id, abandoned)).attempt_count, 0);
  await my.call('DELETE', `${my.path}/${id}`);
});

test('a registration whose secret cannot be opened stops no other', async () => {
  ahead_ms = 0;
  const broken = await my.register(receiver, EVENTS);
  const good = await my.register(receiver, EVENTS);
  await my.call('POST', `${my.path}/${broken}/stop`);
  await server.db.query(`UPDATE webhooks SET secret = 'not sealed' WHERE id = $1`, [broken]);
  await my.call('POST', `${my.path}/${broken}/start`);
  const unsent = await sendTest(broken);
  await my.until(good, await sendTest(good), ({ status }) => status === 'succeeded');
  const shown = await my.delivery(broken, unsent);
  assert.deepEqual([shown.status, shown.attempt_count], ['attempting', 0]);
  const { shared_secret } = (await my.call('POST', `${my.path}/${broken}/keys`)) as { shared_secret: string };
  await server.db.query('UPDATE webhooks SET previous_secret = NULL WHERE id = $1', [broken]);
  receiver.secrets.set(broken, [shared_secret]);
  await my.until(broken, unsent, ({ status }) => status === 'succeeded');
  for (const id of [broken, good]) await my.call('DELETE', `${my.path}/${id}`);
});
