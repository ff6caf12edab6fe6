import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import type { Sql } from '../src/core/db.ts';
import { FIRST_PLACE, insertEvents, isAfter, readEvents, type EventPlace } from '../src/core/events.ts';
import { fanOut } from '../src/webhooks/fanout.ts';
import { insertWebhook } from '../src/webhooks/store.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';
import { newTenant } from './fixtures.ts';
import { eventually } from './wait.ts';

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database.drop());

const organization_id = randomUUID();
const environment_id = randomUUID();
const eventOf = (payment_id: string, event: string) => ({
  organization_id,
  environment_id,
  payment_id,
  wallet_id: randomUUID(),
  type: 'receive',
  event,
  payment: { organization_id, environment_id, id: payment_id },
  at: '2026-01-01T00:00:00Z',
});

/** A transaction on a connection of its own, step by step. */
async function openTransaction(): Promise<{
  sql: Sql;
  client: pg.Client;
  end(how: 'COMMIT' | 'ROLLBACK'): Promise<void>;
}> {
  const client = await database.db.connect();
  await client.query('BEGIN');
  return {
    client,
    sql: { query: async (text, values) => (await client.query(text, values)).rows as never },
    async end(how) {
      await client.query(how);
      await client.end();
    },
  };
}

/** Everything from a place on, page by page; asserts that the order is one. */
async function readAll(from: EventPlace): Promise<{ events: string[]; next: EventPlace }> {
  const events: string[] = [];
  let place = from;
  for (;;) {
    const page = await readEvents(database.db, place, { organization_id, environment_id }, 2);
    for (const event of page.events) {
      assert.ok(isAfter(event, place), 'events come in order');
      place = event;
      events.push(event.event);
    }
    place = page.next;
    if (!page.has_more) return { events, next: place };
  }
}

const REACHED_MS = 10_000;

/** Reads until so many events came: whatever is under way in another test's database is waited for, too. */
async function readUntil(from: EventPlace, count: number): Promise<{ events: string[]; next: EventPlace }> {
  const give_up_at = Date.now() + REACHED_MS;
  const read: { events: string[]; next: EventPlace } = { events: [], next: from };
  for (;;) {
    const more = await readAll(read.next);
    read.events.push(...more.events);
    read.next = more.next;
    if (read.events.length >= count || Date.now() > give_up_at) return read;
    await new Promise((done) => setTimeout(done, 20));
  }
}

test('an event whose transaction commits late is never skipped', async () => {
  const start = (await readAll(FIRST_PLACE)).next;
  const slow = await openTransaction();
  await insertEvents(slow.sql, [eventOf(randomUUID(), 'slow')]);
  for (const name of ['quick 1', 'quick 2', 'quick 3']) {
    await database.db.transaction((sql) => insertEvents(sql, [eventOf(randomUUID(), name)]));
  }
  const early = await readAll(start);
  assert.deepEqual(early.events, [], 'what may still be preceded is not read yet');
  await slow.end('COMMIT');
  const late = await readUntil(early.next, 4);
  assert.deepEqual(late.events.toSorted(), ['quick 1', 'quick 2', 'quick 3', 'slow']);
  assert.deepEqual((await readAll(late.next)).events, [], 'and nothing is read twice');
});

test('threat 14: a transaction that rolls back holds nobody back and leaves nothing', async () => {
  const start = (await readAll(FIRST_PLACE)).next;
  const lost = await openTransaction();
  await insertEvents(lost.sql, [eventOf(randomUUID(), 'lost')]);
  await database.db.transaction((sql) => insertEvents(sql, [eventOf(randomUUID(), 'kept')]));
  await lost.end('ROLLBACK');
  assert.deepEqual((await readUntil(start, 1)).events, ['kept']);
});

test('of two steps of one payment the later one is read later, although its transaction began first', async () => {
  const start = (await readAll(FIRST_PLACE)).next;
  const payment_id = randomUUID();
  await database.db.query("INSERT INTO settings VALUES ('a lock', '1')");
  const later = await openTransaction();
  await later.client.query('SELECT pg_current_xact_id()');
  const sooner = await openTransaction();
  await sooner.client.query("SELECT * FROM settings WHERE key = 'a lock' FOR UPDATE");
  await insertEvents(sooner.sql, [eventOf(payment_id, 'first step')]);
  const waits = later.client.query("SELECT * FROM settings WHERE key = 'a lock' FOR UPDATE");
  await sooner.end('COMMIT');
  await waits;
  await insertEvents(later.sql, [eventOf(payment_id, 'second step')]);
  assert.deepEqual((await readAll(start)).events, []);
  await later.end('COMMIT');
  assert.deepEqual((await readUntil(start, 2)).events, ['first step', 'second step']);
});

test('many writers at once: a reader that goes on from page to page sees each event once, each payment in order', async () => {
  const start = (await readAll(FIRST_PLACE)).next;
  const payments = Array.from({ length: 5 }, () => randomUUID());
  let writing = true;
  const writers = payments.map(async (payment_id, index) => {
    for (let step = 0; step < 40; step += 1) {
      await database.db.transaction(async (sql) => {
        await sql.query('SELECT pg_current_xact_id()');
        if ((step + index) % 7 === 0) await sql.query('SELECT pg_sleep(0.01)');
        await insertEvents(sql, [eventOf(payment_id, `${index}/${step}`)]);
        if ((step + index) % 5 === 0) await sql.query('SELECT pg_sleep(0.005)');
      });
    }
  });
  const done = Promise.all(writers).then(() => (writing = false));
  const seen: string[] = [];
  let place = start;
  for (let last = false; !last;) {
    last = !writing;
    const page = await readAll(place);
    seen.push(...page.events);
    place = page.next;
  }
  await done;
  seen.push(...(await readUntil(place, 200 - seen.length)).events);
  assert.equal(seen.length, 200);
  for (const index of payments.keys()) {
    const own = seen.filter((event) => event.startsWith(`${index}/`));
    assert.deepEqual(
      own,
      Array.from({ length: 40 }, (_, step) => `${index}/${step}`),
    );
  }
});

test("deliveries fall due in the order of events, by the database's clock, whichever server makes them", async () => {
  const tenant = await newTenant(database.db);
  const ref = { organization_id: tenant.organization_id, environment_id: tenant.environment_id };
  const webhook = { ...ref, id: randomUUID(), url: 'http://127.0.0.1/', name: 'x', secret: 'x' };
  const events = ['receive.first', 'receive.second'];
  await insertWebhook(database.db, { ...webhook, events }, '2026-01-01T00:00:00Z');
  const payment_id = randomUUID();
  const dueBy = async (event: string, clock: string): Promise<string> => {
    const told = { ...eventOf(payment_id, event), ...ref, payment: { ...ref, id: payment_id } };
    await database.db.transaction((sql) => insertEvents(sql, [told]));
    const give_up_at = Date.now() + REACHED_MS;
    for (;;) {
      const out = await fanOut(database.db, clock, 10);
      const [made] = out?.fresh ?? [];
      if (made) return made.run_at;
      assert.ok(Date.now() < give_up_at, `${event} becomes a delivery`);
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  const [first, second] = [
    await dueBy('first', '2999-01-01T00:00:00Z'),
    await dueBy('second', '2000-01-01T00:00:00Z'),
  ];
  assert.ok(Date.parse(first) < Date.now() + REACHED_MS, first);
  assert.ok(second >= first, `${second} is not before ${first}`);
  // The database itself may come to run on another clock.
  const [moved] = await database.db.query<{ at: string }>(
    "UPDATE event_places SET at = now() + interval '30 seconds' WHERE name = 'deliveries' RETURNING at",
  );
  assert.equal(await dueBy('second', '2000-01-01T00:00:00Z'), moved?.at);
  await database.db.query("UPDATE event_places SET at = '2999-01-01T00:00:00Z' WHERE name = 'deliveries'");
  assert.ok(
    (await dueBy('second', '2000-01-01T00:00:00Z')) < '2999',
    'a clock that was wrong is not followed',
  );
});

/** Waits until all events of an organization can be read: transactions of other tests hold them back a moment. */
const readable = (organization_id: string): Promise<void> =>
  eventually(async () => {
    const [row] = await database.db.query<{ all: boolean }>(
      `SELECT bool_and(horizon < pg_snapshot_xmin(pg_current_snapshot())::text::bigint) AS all
       FROM events WHERE organization_id = $1`,
      [organization_id],
    );
    assert.equal(row?.all, true, 'they can be read');
  }, REACHED_MS);

test('a server whose view is older than the place that another has just moved makes nothing twice and moves nothing back', async () => {
  const tenant = await newTenant(database.db);
  const ref = { organization_id: tenant.organization_id, environment_id: tenant.environment_id };
  const webhook = { ...ref, id: randomUUID(), url: 'http://127.0.0.1/', name: 'x', secret: 'x' };
  await insertWebhook(database.db, { ...webhook, events: ['receive.step'] }, '2026-01-01T00:00:00Z');
  const at = '2026-01-01T00:00:00Z';
  const write = async (count: number) => {
    for (let index = 0; index < count; index += 1)
      await insertEvents(database.db, [{ ...eventOf(randomUUID(), 'step'), ...ref }]);
  };
  const pass = (limit: number, db = database.db) => fanOut(db, at, limit);
  const place = async () =>
    (
      await database.db.query<EventPlace>(`SELECT horizon, seq FROM event_places WHERE name = 'deliveries'`)
    )[0];
  const made = async () =>
    (
      await database.db.query<{ seq: bigint; count: bigint }>(
        `SELECT seq, count(*) AS count FROM webhook_deliveries WHERE webhook_id = $1 GROUP BY 1 ORDER BY 1`,
        [webhook.id],
      )
    ).map(({ count }) => Number(count));
  // Its snapshot is taken, then it waits at a gate, then it takes the place.
  const gate = await database.db.connect();
  const GATE = 7_770_001;
  const slow = {
    ...database.db,
    query: <R>(text: string, values?: unknown[]) =>
      database.db.query<R>(
        text.replace(
          `WHERE name = 'deliveries' FOR`,
          `WHERE name = 'deliveries' AND (SELECT true FROM pg_advisory_xact_lock_shared(${GATE})) FOR`,
        ),
        values,
      ),
  };
  /** Starts a pass that waits at the gate; what it answers is what `open` gives. */
  const passAtGate = async (limit: number) => {
    await gate.query(`SELECT pg_advisory_lock(${GATE})`);
    const waiting = pass(limit, slow);
    const give_up_at = Date.now() + REACHED_MS;
    const waits = async () =>
      database.db.query(
        `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = ${GATE} AND NOT granted`,
      );
    while ((await waits()).length === 0) assert.ok(Date.now() < give_up_at, 'it comes to the gate');
    return {
      open: async () => {
        await gate.query(`SELECT pg_advisory_unlock(${GATE})`);
        return waiting;
      },
    };
  };
  while ((await pass(500))?.more) continue;
  await write(5);
  await readable(tenant.organization_id);
  const late = await passAtGate(2);
  const first = await pass(2);
  assert.equal(first?.fresh.length, 2);
  const second = await late.open();
  assert.equal(second?.fresh.length, 2);
  assert.deepEqual(second?.from, first?.to);
  assert.deepEqual(await place(), second?.to);
  assert.deepEqual(await made(), [1, 1, 1, 1]);
  // What it does not see was passed by the other one.
  const blind = await passAtGate(500);
  await write(3);
  // The fifth of before, and these: one that cannot be read yet would be left for the other pass.
  for (let passed = 0; passed < 4;) passed += (await pass(500))?.fresh.length ?? 0;
  const moved = await place();
  const fourth = await blind.open();
  await gate.end();
  assert.deepEqual(fourth?.fresh ?? [], []);
  assert.deepEqual(await place(), moved);
  while ((await made()).length < 8) await pass(500);
  assert.deepEqual(
    await made(),
    Array.from({ length: 8 }, () => 1),
  );
});
