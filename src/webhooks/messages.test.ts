import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { createTestDatabase, type TestDatabase } from '../../test/database.ts';
import { END_OF_HORIZON, FIRST_PLACE, insertEvents, readEvents, type StoredEvent } from '../core/events.ts';
import { createBodies, createMessages } from './messages.ts';
import type { DueDelivery } from './queue.ts';

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database.drop());

const bodies = createBodies((row) => {
  const { id, broken } = JSON.parse(row) as { id: string; broken?: boolean };
  if (broken === true) throw new Error('cannot be shown');
  return JSON.stringify({ id });
});

/** An event of a payment of its own, as it is stored. */
async function newEvent(fields: object = {}): Promise<StoredEvent> {
  const ids = { organization_id: randomUUID(), environment_id: randomUUID() };
  const id = randomUUID();
  const told = { type: 'receive', event: 'completed', at: '2026-01-01T00:00:00Z', wallet_id: randomUUID() };
  await insertEvents(database.db, [{ ...ids, ...told, payment_id: id, payment: { id, ...fields } }]);
  for (;;) {
    const { events } = await readEvents(database.db, FIRST_PLACE, ids, 1);
    if (events[0]) return events[0];
    await new Promise((done) => setTimeout(done, 10));
  }
}
const deliveryOf = ({
  organization_id,
  environment_id,
  payment_id,
  horizon,
  seq,
}: StoredEvent): DueDelivery => ({
  organization_id,
  environment_id,
  webhook_id: randomUUID(),
  id: randomUUID(),
  horizon,
  seq,
  payload: null,
  payment_id,
  shard: 0,
  run_at: '2026-01-01T00:00:00.000000Z',
  round_attempts: 0,
  round_started_at: '2026-01-01T00:00:00.000000Z',
});
const none = () => [];

test('an event that cannot be shown stops no other that is read with it', async () => {
  const [broken, whole] = [await newEvent({ broken: true }), await newEvent()];
  const messages = createMessages(database.db, bodies);
  const [first, second] = await Promise.allSettled([
    messages.of(deliveryOf(broken), none),
    messages.of(deliveryOf(whole), none),
  ]);
  assert.equal(first.status, 'rejected');
  assert.deepEqual(
    second.status === 'fulfilled' && second.value?.body,
    `{"type":"receive","detail":{"event":"completed","data":{"id":"${whole.payment_id}"}}}`,
  );
});

test('an event that was not there is looked for again', async () => {
  const event = await newEvent();
  const messages = createMessages(database.db, bodies);
  await database.db.query('UPDATE events SET seq = $2 WHERE seq = $1', [event.seq, END_OF_HORIZON]);
  assert.equal(await messages.of(deliveryOf(event), none), null);
  await database.db.query('UPDATE events SET seq = $1 WHERE seq = $2', [event.seq, END_OF_HORIZON]);
  assert.match((await messages.of(deliveryOf(event), none))?.body ?? '', new RegExp(event.payment_id));
});

test("a place that was counted anew is another payment's: what was kept of it is not sent", async () => {
  const [before_it, after_it] = [await newEvent(), await newEvent()];
  const messages = createMessages(database.db, bodies);
  const own = async (event: StoredEvent) =>
    assert.match((await messages.of(deliveryOf(event), none))?.body ?? '', new RegExp(event.payment_id));
  await own(before_it);
  await database.db.query('DELETE FROM events WHERE seq = $1', [before_it.seq]);
  await database.db.query('UPDATE events SET horizon = $2, seq = $3 WHERE seq = $1', [
    after_it.seq,
    before_it.horizon,
    before_it.seq,
  ]);
  await own({ ...after_it, horizon: before_it.horizon, seq: before_it.seq });
});

test('messages are kept by their size: large ones do not fill the memory', async () => {
  const events = await Promise.all(Array.from({ length: 20 }, () => newEvent()));
  let reads = 0;
  const messages = createMessages(
    {
      ...database.db,
      query(text, values, name) {
        if (name === 'read events at') reads += 1;
        return database.db.query(text, values, name);
      },
    },
    createBodies((row) => row + ' '.repeat(1_000_000)),
  );
  const ask = async (event: StoredEvent | undefined) => event && (await messages.of(deliveryOf(event), none));
  for (const event of events) await ask(event);
  assert.equal(reads, 20);
  await ask(events.at(-1));
  assert.equal(reads, 20, 'the last one is kept');
  await ask(events[0]);
  assert.equal(reads, 21, 'the first one had to go');
});
