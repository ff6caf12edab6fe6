import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { Sql } from '../src/core/db.ts';
import { insertEvents } from '../src/core/events.ts';
import { comeDown } from '../src/webhooks/restore.ts';
import { hooks } from './hooks.ts';
import { openReceiver, openServer } from './setup.ts';
import { GIVE_UP_MS } from './wait.ts';

const { server, me } = await openServer();
const my = hooks(server.client, me.base);
const receiver = await openReceiver();

const FAR = 1_000_000_000_000n;
/** As if all transactions so far had been counted far ahead, in another cluster. */
async function countAhead(sql: Sql): Promise<void> {
  await sql.query(`SELECT 1 FROM event_places WHERE name = 'deliveries' FOR UPDATE`);
  await sql.query(`UPDATE events SET horizon = horizon + ${FAR}`);
  await sql.query(`UPDATE webhook_deliveries SET horizon = horizon + ${FAR}`);
  await sql.query(`UPDATE webhooks SET since = since + ${FAR}`);
  await sql.query(`UPDATE event_places SET horizon = horizon + ${FAR} WHERE name = 'deliveries'`);
}

test('what is written after a restore and before the events are counted anew is delivered, too', async () => {
  const id = await my.register(receiver);
  await my.call('POST', `${my.path}/${id}/stop`);
  await me.fund(1000);
  while ((await my.deliveries(id)).length < 3) await new Promise((done) => setTimeout(done, 10));
  const { organization_id, environment_id, wallet_id } = server.credentials;
  const payment_id = randomUUID();
  // Held until the event is written: a server that runs counts anew by itself.
  await server.db.transaction(async (sql) => {
    await countAhead(sql);
    const [row] = await sql.query<{ payment: object }>(
      'SELECT payment FROM events ORDER BY seq DESC LIMIT 1',
    );
    const payment = { ...row?.payment, id: payment_id };
    const at = new Date().toISOString();
    await insertEvents(sql, [
      {
        organization_id,
        environment_id,
        payment_id,
        wallet_id,
        type: 'receive',
        event: 'completed',
        payment,
        at,
      },
    ]);
  });
  await comeDown(server.db);
  await my.call('POST', `${my.path}/${id}/start`);
  const mine = () => receiver.received.filter(({ webhook_id }) => webhook_id === id);
  await receiver.until(() => mine().length === 4, 'the event that was written after the restore');
  assert.equal(mine().filter(({ data }) => data.id === payment_id).length, 1);
  assert.equal(new Set(mine().map(({ delivery_id }) => delivery_id)).size, 4, 'and nothing twice');
  await my.call('DELETE', `${my.path}/${id}`);
});

test('a running server whose database was restored beneath it goes on delivering by itself', async () => {
  const id = await my.register(receiver);
  await server.db.transaction(countAhead);
  await me.fund(1000);
  const mine = () => receiver.received.filter(({ webhook_id }) => webhook_id === id);
  await receiver.until(() => mine().length === 3, 'the events of after the restore');
  await my.call('DELETE', `${my.path}/${id}`);
});

test('a place of before a restore is refused, also when the numbers of transactions have passed it', async () => {
  const page = async (query: string) =>
    server.client.request('GET', `${me.base}/events?limit=1000${query}`) as Promise<{
      status: number;
      body: { next_after: string; items: unknown[]; type: string };
    }>;
  await me.fund(1000);
  const { next_after } = (await page('')).body;
  assert.equal((await page(`&after=${next_after}`)).status, 200);
  await server.db.transaction(countAhead);
  const give_up_at = Date.now() + GIVE_UP_MS;
  while ((await page(`&after=${next_after}`)).status !== 410) {
    assert.ok(Date.now() < give_up_at, 'the server counts anew by itself');
    await new Promise((done) => setTimeout(done, 20));
  }
  const again = (await page('')).body;
  assert.ok(again.items.length >= 3, 'what is kept is read from the start');
  await me.fund(1000);
  assert.equal((await page(`&after=${again.next_after}`)).status, 200);
});

test('counting anew takes as long as it takes: the time of a statement does not end it', async () => {
  const { organization_id, environment_id, wallet_id } = server.credentials;
  const blocker = await server.db.connect();
  await blocker.query('BEGIN');
  await blocker.query('SELECT 1 FROM webhooks FOR UPDATE');
  const payment = { organization_id, environment_id, id: randomUUID() };
  await server.db.transaction(async (sql) => {
    const at = new Date().toISOString();
    const event = { organization_id, environment_id, payment_id: payment.id, wallet_id, payment, at };
    await insertEvents(sql, [{ ...event, type: 'receive', event: 'generated' }]);
    await sql.query(`SELECT 1 FROM event_places WHERE name = 'deliveries' FOR UPDATE`);
    await sql.query(`UPDATE events SET horizon = horizon + ${FAR}`);
    await sql.query('SET LOCAL statement_timeout = 100');
    const counted = comeDown({ ...server.db, transaction: (work) => work(sql) });
    const early = await Promise.race([
      counted.then(
        () => 'ended',
        (error: Error) => error.message,
      ),
      new Promise((done) => setTimeout(() => done('waits'), 500)),
    ]);
    await blocker.query('COMMIT');
    await blocker.end();
    assert.equal(early, 'waits');
    assert.equal(await counted, true);
  });
});
