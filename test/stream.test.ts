import assert from 'node:assert/strict';
import { test } from 'node:test';
import { revokeKey } from '../src/admin/keys.ts';
import { insertEvents } from '../src/core/events.ts';
import { removeOld } from '../src/webhooks/retention.ts';
import { newTenant } from './fixtures.ts';
import { atEnd, openServer } from './setup.ts';
import { openStream, type EventStream } from './sse.ts';
import { newKey } from './tenant.ts';
import { GIVE_UP_MS } from './wait.ts';

const { server, me } = await openServer();
const opened: EventStream[] = [];
atEnd(() => {
  for (const stream of opened) stream.close();
});

interface Page {
  items: { id: string; type: string; detail: { event: string; data: { id: string } } }[];
  next_after: string;
  has_more: boolean;
}

async function follow(query = '', headers: Record<string, string> = {}): Promise<EventStream> {
  const { api_key } = server.credentials;
  const stream = await openStream(`${server.base_url}${me.base}/events${query}`, {
    'x-api-key': api_key,
    ...headers,
  });
  opened.push(stream);
  return stream;
}
async function page(query = ''): Promise<Page> {
  const answer = await server.client.request('GET', `${me.base}/events${query}`);
  assert.equal(answer.status, 200, answer.text);
  return answer.body as Page;
}
const paid = async (): Promise<string> => {
  const payment = await me.receive();
  await me.sandbox('payments', { payment_request: payment.data.payment_request });
  return payment.id;
};
/** A receive that was paid, all of whose events can be read: other transactions of the cluster hold them back a moment. */
async function told(): Promise<string> {
  const id = await paid();
  const give_up_at = Date.now() + GIVE_UP_MS;
  while ((await page(`?payment_id=${id}`)).items.length < 3) {
    assert.ok(Date.now() < give_up_at, 'its events can be read');
    await new Promise((done) => setTimeout(done, 10));
  }
  return id;
}
const names = (stream: EventStream, id: string): string[] =>
  stream.frames.filter(({ data }) => data.detail.data.id === id).map(({ event }) => event);
const ALL = ['receive.generated', 'receive.succeeded', 'receive.completed'];

test('a stream gets its headers at once and tells what happens from then on', async () => {
  const before_it = await told();
  const stream = await follow();
  assert.equal(stream.status, 200);
  assert.match(stream.headers['content-type'] ?? '', /^text\/event-stream/);
  const id = await paid();
  await stream.until(() => names(stream, id).length === 3, 'three events');
  assert.deepEqual(names(stream, id), ALL);
  assert.deepEqual(names(stream, before_it), []);
  const [first] = stream.frames;
  assert.equal(first?.data.type, 'receive');
  assert.equal(first?.data.detail.event, 'generated');
});

test('a stream resumes where it stopped, by header or by parameter, and misses and repeats nothing', async () => {
  const stream = await follow();
  const first = await paid();
  await stream.until(() => names(stream, first).length === 3, 'the first');
  stream.close();
  const missed = [await paid(), await paid()];
  const last_id = stream.frames.at(-1)?.id ?? '';
  const by_header = await follow('', { 'last-event-id': last_id });
  const by_parameter = await follow(`?after=${last_id}`);
  const later = await paid();
  for (const resumed of [by_header, by_parameter]) {
    await resumed.until(() => names(resumed, later).length === 3, 'what came later');
    for (const id of missed) assert.deepEqual(names(resumed, id), ALL);
    assert.deepEqual(names(resumed, first), []);
    assert.equal(new Set(resumed.frames.map(({ id }) => id)).size, resumed.frames.length);
  }
  const from_middle = await follow(`?after=${stream.frames[0]?.id}`);
  await from_middle.until(() => names(from_middle, first).length === 2, 'the rest of the first');
  assert.deepEqual(names(from_middle, first), ALL.slice(1));
});

test('a stream that heard nothing yet has a place to resume from, which moves on while it stays quiet', async () => {
  const stream = await follow('?types[]=send');
  await stream.until(() => stream.last_id !== '', 'a place');
  const first_place = stream.last_id;
  const other = await told();
  const heard = stream.comments;
  await stream.until(() => stream.comments > heard && stream.last_id !== first_place, 'a later place');
  const quiet_place = stream.last_id;
  assert.deepEqual(stream.frames, []);
  stream.close();
  const missed = await paid();
  const early = await follow('', { 'last-event-id': first_place });
  await early.until(() => names(early, missed).length === 3, 'what came after it was opened');
  assert.deepEqual(names(early, other), ALL);
  const late = await follow('', { 'last-event-id': quiet_place });
  await late.until(() => names(late, missed).length === 3, 'what came after it was quiet');
  assert.deepEqual(names(late, other), []);
});

test('streams filter by wallet, payment and type', async () => {
  const other_wallet = await me.newWallet();
  const by_type = await follow('?types[]=receive.completed&types[]=send');
  const by_wallet = await follow(`?wallet_id=${other_wallet}`);
  const id = await paid();
  await me.fund(5000, other_wallet);
  await by_wallet.until(() => by_wallet.frames.length === 3, 'the events of the other wallet');
  await by_type.until(() => by_type.frames.length === 2, 'both completions');
  assert.ok(by_wallet.frames.every(({ data }) => data.detail.data.wallet_id === other_wallet));
  assert.deepEqual(
    by_type.frames.map(({ event }) => event),
    ['receive.completed', 'receive.completed'],
  );
  const { items } = await page(`?payment_id=${id}`);
  assert.deepEqual(
    items.map(({ type, detail }) => `${type}.${detail.event}`),
    ALL,
  );
});

test('without the header the same events come as pages, to the end and on from there', async () => {
  const id = await told();
  const seen: Page['items'] = [];
  let next = await page('?limit=2');
  for (;;) {
    seen.push(...next.items);
    if (!next.has_more) break;
    next = await page(`?limit=2&after=${next.next_after}`);
  }
  assert.equal(new Set(seen.map((item) => item.id)).size, seen.length);
  assert.deepEqual(
    seen.filter(({ detail }) => detail.data.id === id).map(({ type, detail }) => `${type}.${detail.event}`),
    ALL,
  );
  const nothing = await page(`?after=${next.next_after}`);
  assert.deepEqual([nothing.items, nothing.has_more], [[], false]);
  const more = await told();
  const rest = await page(`?after=${nothing.next_after}`);
  assert.ok(rest.items.every(({ detail }) => detail.data.id === more));
  assert.equal(rest.items.length, 3);
  assert.equal((await server.client.request('GET', `${me.base}/events?after=nonsense`)).status, 400);
  assert.equal((await server.client.request('GET', `${me.base}/events?types=made.up`)).status, 400);
});

test('a place before what is kept answers 410, on the page and on the stream', async () => {
  const { items } = await page('?limit=1');
  const [oldest] = items;
  const far = '2999-01-01T00:00:00Z';
  // Events go once they are deliveries, which the server sees to within a second.
  while ((await page()).items.length > 0) await removeOld(server.db, far, far);
  const gone = await server.client.request('GET', `${me.base}/events?after=${oldest?.id}`);
  assert.equal(gone.status, 410);
  assert.equal((gone.body as { error: { type: string } }).error.type, 'events_removed');
  const stream = await follow('', { 'last-event-id': oldest?.id ?? '' });
  assert.equal(stream.status, 410);
  const start = await page();
  assert.deepEqual(start.items, [], 'from the start: what is kept');
  await told();
  assert.equal((await page(`?after=${start.next_after}`)).items.length, 3);
});

test('a stream needs READ, sees its own environment only, and ends when its key is revoked', async () => {
  const receive_only = await newKey(server.db, server.credentials, ['RECEIVE']);
  const denied = await follow('', { 'x-api-key': receive_only });
  assert.equal(denied.status, 403);
  const other = await newTenant(server.db);
  const foreign = await openStream(
    `${server.base_url}/organizations/${other.organization_id}/environments/${other.environment_id}/events`,
    { 'x-api-key': other.api_key },
  );
  opened.push(foreign);
  const stream = await follow();
  const id = await paid();
  await stream.until(() => names(stream, id).length === 3, 'its own events');
  assert.deepEqual(foreign.frames, []);
  const [key] = await server.db.query<{ id: string }>('SELECT id FROM api_keys WHERE organization_id = $1', [
    other.organization_id,
  ]);
  await revokeKey(server.db, key?.id ?? '');
  await foreign.until(() => foreign.ended, 'the end of a stream whose key was revoked');
  assert.ok(!stream.ended && stream.comments > 0, 'the others live and hear a heartbeat');
});

test('a client that does not read is closed, and resumes without a gap', async () => {
  const stream = await follow();
  const first = await paid();
  await stream.until(() => names(stream, first).length === 3, 'the first');
  const after_id = stream.frames.at(-1)?.id ?? '';
  stream.pause();
  const open_before = await openStreams();
  const count = 4000;
  await tellMuch(count);
  while ((await openStreams()) >= open_before) await new Promise((done) => setTimeout(done, 100));
  const told = await resumeUntil(after_id, count);
  assert.equal(new Set(told).size, count);
});

/** Ids of the next `count` events after a place, as a client hears them that is closed by a busy server and comes back. */
async function resumeUntil(after_id: string, count: number): Promise<string[]> {
  const ids: string[] = [];
  const give_up_at = Date.now() + GIVE_UP_MS;
  while (ids.length < count) {
    assert.ok(Date.now() < give_up_at, `${ids.length} of ${count} came`);
    const stream = await follow(`?after=${ids.at(-1) ?? after_id}`);
    await stream.until(
      () => ids.length + stream.frames.length >= count || stream.ended,
      'the rest, or its end',
    );
    ids.push(...stream.frames.map(({ id }) => id));
    stream.close();
  }
  return ids;
}

test('a slow client whose next events are removed meanwhile is closed: it never skips them', async () => {
  const stream = await follow();
  const first = await paid();
  await stream.until(() => names(stream, first).length === 3, 'the first');
  stream.pause();
  const quick = await follow();
  await tellMuch(4000);
  await quick.until(() => quick.frames.length === 4000, 'all of them, told to one that reads');
  await server.db.query(
    `WITH gone AS (DELETE FROM events WHERE (horizon, seq) < ALL (
       SELECT horizon, seq FROM (SELECT * FROM events ORDER BY horizon DESC, seq DESC LIMIT 10) kept)
       RETURNING horizon, seq),
     last AS (SELECT horizon, seq FROM gone ORDER BY horizon DESC, seq DESC LIMIT 1)
     UPDATE event_places p SET horizon = last.horizon, seq = last.seq FROM last WHERE p.name = 'removed'`,
  );
  stream.resume();
  await stream.until(() => stream.ended, 'its end');
  assert.ok(stream.frames.length < 4000, 'told without a gap, up to where it ended');
  const resumed = await follow('', { 'last-event-id': stream.frames.at(-1)?.id ?? '' });
  assert.equal(resumed.status, 410);
});

/** Many large events, as one payment after the other would write them. */
async function tellMuch(count: number): Promise<void> {
  const { organization_id, environment_id } = server.credentials;
  await server.db.query(
    `INSERT INTO events (organization_id, environment_id, horizon, payment_id, wallet_id, type, event, payment, at)
     SELECT e.organization_id, e.environment_id, pg_current_xact_id()::text::bigint, e.payment_id, e.wallet_id, e.type,
       e.event, (e.payment::jsonb || jsonb_build_object('description', repeat('x', 5000)))::json, now()
     FROM (SELECT * FROM events WHERE organization_id = $1 AND environment_id = $2 ORDER BY horizon DESC, seq DESC LIMIT 1) e,
       generate_series(1, $3)`,
    [organization_id, environment_id, count],
  );
}

/** How many streams the server has open, by its own count. */
async function openStreams(): Promise<number> {
  const text = await (await fetch(`${server.base_url.replace('/v1', '')}/metrics`)).text();
  return Number(/^coulomb_event_streams (\d+)$/m.exec(text)?.[1]);
}

test('an event that cannot be shown ends the streams that would tell it, and no other', async () => {
  const other = await newTenant(server.db);
  const { organization_id, environment_id, wallet_id } = other;
  const stream = await follow();
  const theirs = await openStream(
    `${server.base_url}/organizations/${organization_id}/environments/${environment_id}/events`,
    { 'x-api-key': other.api_key },
  );
  opened.push(theirs);
  // Both are told by what follows the events for all.
  const first = await paid();
  await stream.until(() => names(stream, first).length === 3, 'three events');
  const event = { organization_id, environment_id, payment_id: wallet_id, wallet_id };
  const what = { type: 'receive', event: 'completed', payment: {}, at: new Date().toISOString() };
  await insertEvents(server.db, [{ ...event, ...what }]);
  const id = await paid();
  await stream.until(() => names(stream, id).length === 3, 'the events after it');
  await theirs.until(() => theirs.ended, 'the end of the stream that would skip it');
  assert.equal(theirs.frames.length, 0);
  assert.equal(stream.ended, false);
});
