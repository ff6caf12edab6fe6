import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { createTestDatabase, type TestDatabase } from '../../test/database.ts';
import { newTenant } from '../../test/fixtures.ts';
import { startReceiver, type Receiver } from '../../test/receiver.ts';
import { systemClock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { insertEvents } from '../core/events.ts';
import { createLog } from '../core/log.ts';
import { createVault } from '../core/vault.ts';
import { Alarm } from '../core/alarm.ts';
import { createBodies } from './messages.ts';
import { Courier } from './courier.ts';
import { SHARDS } from './deliveries.ts';
import { CHANNELS, Fan, fanOut } from './fanout.ts';
import type { DueDelivery } from './queue.ts';
import { insertWebhook, secretOwner, type WebhookRef } from './store.ts';
import { createResolve, openNetwork } from './target.ts';

let database: TestDatabase;
let receiver: Receiver;
let scope: { organization_id: string; environment_id: string };
const network = openNetwork(createResolve(), 15_000);
const vault = createVault(randomBytes(32));
const ALL = Array.from({ length: SHARDS }, (_, shard) => shard);
before(async () => {
  database = await createTestDatabase();
  receiver = await startReceiver();
});
after(async () => {
  await network.close();
  await receiver.close();
  await database.drop();
});

/** A registration in an environment of its own. */
async function register(): Promise<WebhookRef> {
  const { organization_id, environment_id } = await newTenant(database.db);
  scope = { organization_id, environment_id };
  const ref = { ...scope, id: randomUUID() };
  receiver.secrets.set(ref.id, ['secret']);
  const events = ['receive.generated', 'receive.completed'];
  const secret = vault.seal('secret', secretOwner(ref));
  const webhook = { ...ref, url: receiver.url, name: 'hook', events, secret };
  await insertWebhook(database.db, webhook, '2026-01-01T00:00:00Z');
  return ref;
}

/** Writes events of payments of an environment. */
async function write(...told: [payment_id: string, event: string][]): Promise<void> {
  const events = told.map(([payment_id, event]) => ({
    ...scope,
    payment_id,
    wallet_id: randomUUID(),
    type: 'receive',
    event,
    payment: { id: payment_id },
    at: '2026-01-01T00:00:00Z',
  }));
  await insertEvents(database.db, events);
}

/** Writes events and makes their deliveries. */
async function deliver(...told: [payment_id: string, event: string][]): Promise<DueDelivery[]> {
  await write(...told);
  for (;;) {
    const fresh = (await fanOut(database.db, '2026-01-01T00:00:00Z', 100))?.fresh ?? [];
    if (fresh.length > 0) return fresh;
    await new Promise((done) => setTimeout(done, 10));
  }
}

interface Watched {
  db: Database;
  /** Runs before a query of this name; what it throws is the query's. */
  before: Map<string, () => Promise<void> | void>;
  /** Runs after it, as if its answer were lost where it throws. */
  after: Map<string, (rows: unknown[]) => Promise<void> | void>;
  /** Queries of each name that have ended. */
  done: Map<string, number>;
}
function watched(): Watched {
  const watch: Watched = {
    before: new Map(),
    after: new Map(),
    done: new Map(),
    db: {
      ...database.db,
      async query(text, values, name = '') {
        await watch.before.get(name)?.();
        const rows = await database.db.query(text, values, name);
        await watch.after.get(name)?.(rows);
        watch.done.set(name, (watch.done.get(name) ?? 0) + 1);
        return rows as never;
      },
    },
  };
  return watch;
}

const log = createLog('fatal');
const sharing = (shards: () => readonly number[]) => ({
  owns: (shard: number) => shards().includes(shard),
  shards: () => [...shards()],
});
function courierOn(db: Database, shards: () => readonly number[]): Courier {
  return new Courier({
    db,
    clock: systemClock,
    log,
    vault,
    network,
    membership: sharing(shards),
    bodies: createBodies((row) => row),
    written: () => 0,
    allow_private: true,
    stop_after_ms: 3_600_000,
    timeout_ms: 15_000,
    attempted: () => {},
  });
}

const until = async (reached: () => boolean): Promise<void> => {
  const give_up_at = Date.now() + 20_000;
  while (!reached()) {
    assert.ok(Date.now() < give_up_at, 'it comes');
    await new Promise((done) => setTimeout(done, 2));
  }
};
const told = (payment_id: string): string[] =>
  receiver.received.filter(({ data }) => data.id === payment_id).map(({ event }) => event);

test("a delivery whose event could not be read is not overtaken by its payment's next one", async () => {
  await register();
  const watch = watched();
  const courier = courierOn(watch.db, () => ALL);
  courier.start();
  await until(() => (watch.done.get('next due deliveries') ?? 0) > 0);
  let failures = 0;
  watch.before.set('read events at', () => {
    failures += 1;
    if (failures === 1) throw new Error('the connection is gone');
  });
  const payment_id = randomUUID();
  // More between them than what is read along with the first.
  const between = Array.from({ length: 70 }, (): [string, string] => [randomUUID(), 'generated']);
  courier.offer(await deliver([payment_id, 'generated'], ...between, [payment_id, 'completed']));
  await until(() => told(payment_id).length >= 2);
  assert.deepEqual(told(payment_id), ['generated', 'completed']);
  await courier.stop();
});

test('what another server left of a payment goes out before its next delivery', async () => {
  await register();
  const watch = watched();
  let shards: readonly number[] = [];
  const courier = courierOn(watch.db, () => shards);
  courier.start();
  await until(() => (watch.done.get('active webhooks') ?? 0) > 1);
  await new Promise((done) => setTimeout(done, 100));
  const payment_id = randomUUID();
  // Made while its shard was another server's.
  await deliver([payment_id, 'generated']);
  let go = () => {};
  const gate = new Promise<void>((open) => (go = open));
  watch.before.set('active webhooks named', () => gate);
  shards = ALL;
  const other = scope;
  await register();
  courier.offer(await deliver([randomUUID(), 'generated']));
  courier.look();
  scope = other;
  courier.offer(await deliver([payment_id, 'completed']));
  await new Promise((done) => setTimeout(done, 100));
  go();
  await until(() => told(payment_id).length >= 2);
  assert.deepEqual(told(payment_id), ['generated', 'completed']);
  await courier.stop();
});

test("while the database's clock is behind the time of the last deliveries, a payment's deliveries go out in order", async () => {
  await register();
  const watch = watched();
  const courier = courierOn(watch.db, () => ALL);
  courier.start();
  await until(() => (watch.done.get('next due deliveries') ?? 0) > 0);
  await database.db.query(
    "UPDATE event_places SET at = now() + interval '20 seconds' WHERE name = 'deliveries'",
  );
  const payment_id = randomUUID();
  // Not offered: as where an answer of the database was under way.
  await deliver([payment_id, 'generated']);
  const looked = watch.done.get('next due deliveries') ?? 0;
  courier.look();
  await until(() => (watch.done.get('next due deliveries') ?? 0) > looked);
  await new Promise((done) => setTimeout(done, 100));
  courier.offer(await deliver([payment_id, 'completed']));
  await until(() => told(payment_id).length >= 2);
  assert.deepEqual(told(payment_id), ['generated', 'completed']);
  await courier.stop();
});

test('deliveries that were made while the answer of the database was lost go out before what is made next', async () => {
  await register();
  const watch = watched();
  const courier = courierOn(watch.db, () => ALL);
  courier.start();
  // The next look at everything is seconds away.
  await until(() => (watch.done.get('active webhooks') ?? 0) > 1);
  await new Promise((done) => setTimeout(done, 100));
  const payment_id = randomUUID();
  let lost = false;
  watch.after.set('make deliveries', async (rows) => {
    if (lost || !rows.some((row) => (row as { id: string | null }).id !== null)) return;
    lost = true;
    await write([payment_id, 'completed']);
    throw new Error('the connection is gone');
  });
  await write([payment_id, 'generated']);
  const fan = new Fan({
    db: watch.db,
    clock: systemClock,
    log,
    alarm: new Alarm({ db: database.db, log }, Object.values(CHANNELS)),
    courier,
    membership: sharing(() => ALL),
    startOver: () => {},
  });
  fan.start();
  await until(() => told(payment_id).length >= 2);
  assert.deepEqual(told(payment_id), ['generated', 'completed']);
  await fan.stop();
  await courier.stop();
});
