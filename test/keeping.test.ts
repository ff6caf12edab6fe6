import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createLog } from '../src/core/log.ts';
import { openVault, WrongKey } from '../src/core/vault.ts';
import { comeDown } from '../src/webhooks/restore.ts';
import { removeOld } from '../src/webhooks/retention.ts';
import { createTestDatabase } from './database.ts';
import { hooks } from './hooks.ts';
import { openReceiver, openServer } from './setup.ts';

const { server, me } = await openServer();
const my = hooks(server.client, me.base);
const receiver = await openReceiver();

const count = async (table: string): Promise<number> => {
  const [row] = await server.db.query<{ count: bigint }>(`SELECT count(*) AS count FROM ${table}`);
  return Number(row?.count);
};
const FAR = '2999-01-01T00:00:00Z';

test('old events and deliveries go, but nothing that a delivery still waits for; history and ledger stay', async () => {
  const stopped = await my.register(receiver);
  const active = await my.register(receiver);
  await my.call('POST', `${my.path}/${stopped}/stop`);
  await me.fund(1000);
  await receiver.until(() => receiver.received.length === 3, 'what is delivered');
  while ((await my.deliveries(active, '?statuses=succeeded')).length < 3)
    await new Promise((done) => setTimeout(done, 10));
  await removeOld(server.db, '2000-01-01T00:00:00Z', '2000-01-01T00:00:00Z');
  assert.deepEqual([await count('events'), await count('webhook_deliveries')], [3, 6], 'what is young stays');
  const now = new Date(Date.now() + 1000).toISOString();
  await server.db.query("UPDATE webhooks SET stopped_at = $1 WHERE status = 'stopped'", [now]);
  await server.db.query("UPDATE events SET at = at - interval '2 days'");
  await removeOld(server.db, now, now);
  assert.deepEqual(
    [await count('events'), await count('webhook_deliveries')],
    [3, 3],
    'what is open stays, with its events',
  );
  const kept = [await count('payment_history'), await count('transfers'), await count('ledger_events')];
  await my.call('POST', `${my.path}/${stopped}/start`);
  await receiver.until(() => receiver.received.length === 6, 'what was queued');
  while ((await my.deliveries(stopped, '?statuses=attempting')).length > 0)
    await new Promise((done) => setTimeout(done, 10));
  await removeOld(server.db, FAR, FAR);
  assert.deepEqual([await count('events'), await count('webhook_deliveries')], [0, 0]);
  assert.deepEqual(
    [await count('payment_history'), await count('transfers'), await count('ledger_events')],
    kept,
  );
});

test('a webhook that is stopped for as long as events are kept keeps them no longer, and that is said', async () => {
  const id = await my.register(receiver);
  await my.call('POST', `${my.path}/${id}/stop`);
  await me.fund(1000);
  while ((await my.deliveries(id)).length < 3) await new Promise((done) => setTimeout(done, 10));
  const { given_up } = await removeOld(server.db, FAR, FAR);
  assert.deepEqual(
    given_up.map(({ webhook_id, count: given }) => [webhook_id, given]),
    [[id, 3n]],
  );
  // Another webhook still gets them.
  while ((await count('events')) > 0) await removeOld(server.db, FAR, FAR);
  assert.equal((await my.get(id))['status'], 'stopped', 'it can be started, and gets what comes then');
});

test('what is open of a webhook is abandoned as it is deleted, and what came in between by the sweep, whenever', async () => {
  const id = await my.register(receiver);
  await my.call('POST', `${my.path}/${id}/stop`);
  await me.fund(1000);
  while ((await my.deliveries(id)).length < 3) await new Promise((done) => setTimeout(done, 10));
  await my.call('DELETE', `${my.path}/${id}`);
  const abandoned = async () => {
    const deliveries = await my.deliveries(id);
    assert.deepEqual(
      deliveries.map(({ status }) => status),
      ['abandoned', 'abandoned', 'abandoned'],
    );
  };
  await abandoned();
  await server.db.query("UPDATE webhook_deliveries SET status = 'attempting' WHERE webhook_id = $1", [id]);
  await server.db.query("UPDATE webhooks SET deleted_at = deleted_at - interval '60 days' WHERE id = $1", [
    id,
  ]);
  await removeOld(server.db, '2000-01-01T00:00:00Z', new Date().toISOString());
  await abandoned();
});

test('a database restored into another cluster loses no event, and refuses places of before', async () => {
  const id = await my.register(receiver);
  await my.call('POST', `${my.path}/${id}/stop`);
  await me.fund(1000);
  while ((await my.deliveries(id)).length < 3) await new Promise((done) => setTimeout(done, 10));
  const { next_after } = (await my.call('GET', `${me.base}/events`)) as { next_after: string };
  // As if its transactions had been counted far ahead, and two of the events were not deliveries yet.
  const far = '1000000000000';
  await server.db.transaction(async (sql) => {
    await sql.query(`SELECT 1 FROM event_places WHERE name = 'deliveries' FOR UPDATE`);
    await sql.query(`UPDATE events SET horizon = horizon + ${far}`);
    await sql.query(`UPDATE webhook_deliveries SET horizon = horizon + ${far}`);
    await sql.query(`UPDATE webhooks SET since = since + ${far}`);
    await sql.query(
      `DELETE FROM webhook_deliveries WHERE seq IN (SELECT seq FROM events ORDER BY horizon DESC, seq DESC LIMIT 2)`,
    );
    await sql.query(
      `UPDATE event_places SET (horizon, seq) = (SELECT horizon, seq FROM events ORDER BY horizon DESC, seq DESC OFFSET 2 LIMIT 1)
       WHERE name = 'deliveries'`,
    );
  });
  // The server that runs may have been first.
  await comeDown(server.db);
  assert.equal(await comeDown(server.db), false, 'once');
  await my.call('POST', `${my.path}/${id}/start`);
  const mine = () => receiver.received.filter(({ webhook_id }) => webhook_id === id);
  await receiver.until(() => mine().length === 3, 'every event');
  assert.deepEqual(
    mine().map(({ event }) => event),
    ['generated', 'succeeded', 'completed'],
  );
  const later = Buffer.from(`${(BigInt(far) * 2n).toString(36)}.1`).toString('base64url');
  assert.equal((await server.client.request('GET', `${me.base}/events?after=${later}`)).status, 410);
  assert.equal((await server.client.request('GET', `${me.base}/events?after=${next_after}`)).status, 410);
});

test('the key is made once, in a file that only the owner reads, and a server with another one is refused', async () => {
  const database = await createTestDatabase();
  const folder = mkdtempSync(join(tmpdir(), 'coulomb-key-'));
  const file = join(folder, 'secret.key');
  const log = createLog('fatal');
  const open = (key: Buffer | null, at = file, embedded = true) =>
    openVault(database.db, key, at, embedded, log);
  const none = await open(null, file, false);
  assert.ok(!none.has_key && !existsSync(file), 'of several servers on a database, none makes a key');
  assert.throws(() => none.seal('whsec_x', 'a webhook'), WrongKey);
  const sealed = (await open(null)).seal('whsec_x', 'a webhook');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal((await open(null)).open(sealed, 'a webhook'), 'whsec_x', 'the same key at the next start');
  const key = Buffer.from(readFileSync(file, 'utf8').trim(), 'hex');
  assert.equal((await open(key, join(folder, 'none'))).open(sealed, 'a webhook'), 'whsec_x');
  const refused = (work: Promise<unknown>, why: RegExp) =>
    assert.rejects(work, (error: unknown) => error instanceof WrongKey && why.test(error.message));
  await refused(open(Buffer.alloc(32)), /another key than COULOMB_SECRET_KEY/);
  await refused(open(null, join(folder, 'gone')), /set COULOMB_SECRET_KEY/);
  writeFileSync(file, 'not a key');
  await refused(open(null), /does not hold a key/);
  const [stored] = await database.db.query<{ text: string }>(
    "SELECT string_agg(value::text, ' ') AS text FROM settings",
  );
  assert.ok(!stored?.text.includes(key.toString('hex')), 'the database does not know the key');
  rmSync(folder, { recursive: true });
  await database.drop();
});

test('threat 18: every list of webhooks and deliveries walks an index', async () => {
  const [webhook] = await server.db.query<Record<string, string>>('SELECT * FROM webhooks LIMIT 1');
  const its = (alias: string) =>
    `${alias}.organization_id = '${webhook?.['organization_id']}' AND ${alias}.environment_id = '${webhook?.['environment_id']}'`;
  const of = `${its('d')} AND d.webhook_id = '${webhook?.['id']}'`;
  const plans: [string, RegExp][] = [
    [
      `SELECT 1 FROM webhook_deliveries d WHERE ${of} ORDER BY d.created_at DESC, d.id DESC LIMIT 101`,
      /by_created/,
    ],
    [
      `SELECT 1 FROM webhook_deliveries d WHERE ${of} ORDER BY d.updated_at DESC, d.id DESC LIMIT 101`,
      /by_updated/,
    ],
    [
      `SELECT 1 FROM webhook_deliveries d WHERE ${of} AND d.status IN ('failed', 'abandoned') ORDER BY d.created_at DESC, d.id DESC LIMIT 101`,
      /deliveries_lost/,
    ],
    [
      `SELECT 1 FROM webhook_deliveries d WHERE ${of} AND d.status = 'attempting' AND d.run_at <= now() ORDER BY d.run_at, d.horizon, d.seq LIMIT 500`,
      /deliveries_open/,
    ],
    [
      `SELECT 1 FROM events e WHERE ${its('e')} AND (e.horizon, e.seq) > (5, 5) ORDER BY e.horizon, e.seq LIMIT 100`,
      /events_/,
    ],
    [
      'SELECT 1 FROM events e WHERE (e.horizon, e.seq) > (5, 5) ORDER BY e.horizon, e.seq LIMIT 100',
      /events_in_order/,
    ],
  ];
  for (const [text, index] of plans) {
    const lines = await server.db.transaction(async (sql) => {
      // A handful of rows is sorted more cheaply than walked.
      await sql.query('SET LOCAL enable_sort = off');
      return sql.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`);
    });
    const plan = lines.map((line) => line['QUERY PLAN']).join('\n');
    assert.doesNotMatch(plan, /Seq Scan/, plan);
    assert.match(plan, index, plan);
  }
});
