import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createClient } from './client.ts';
import { createTestDatabase } from './database.ts';
import { newTenant, spawnServer, startTestServer } from './fixtures.ts';
import { hooks } from './hooks.ts';
import { openReceiver, openServer } from './setup.ts';
import { openStream } from './sse.ts';
import { newEnvironment, newKey } from './tenant.ts';

const { server, me } = await openServer();
const my = hooks(server.client, me.base);
const receiver = await openReceiver();

const create = (events: unknown) =>
  server.client.request('POST', my.path, {
    body: { id: randomUUID(), url: receiver.url, name: 'hook', events },
  });
const tryOut = (id: string, payload: unknown, delivery_id: string = randomUUID()) =>
  server.client.request('POST', `${my.path}/${id}/test`, { body: { delivery_id, payload } });

test('every type of a subscription is checked, beside which others it may stand', async () => {
  const bad = [
    [{ send: 'succeeded', receive: { toString: 1 } }],
    [{ send: 'succeeded', receive: 'bogus' }],
    [{ send: 'succeeded', receive: ['completed', 'bogus'] }],
    [{ send: 'succeeded', test: 7 }],
    [{ other: 'succeeded' }],
    [{}],
    [{ send: null }],
    ['send'],
    [null],
  ];
  for (const events of bad) {
    const answer = await create(events);
    assert.equal(answer.status, 422, `${JSON.stringify(events)}: ${answer.text}`);
    assert.match(answer.text, /events\.0/);
  }
  const id = await my.register(receiver, [
    { send: ['succeeded', 'failed'], receive: 'completed', made_up: true },
  ]);
  const events = [{ send: 'succeeded' }, { send: 'failed' }, { receive: 'completed' }];
  assert.deepEqual((await my.get(id))['events'], events);
  const changed = await server.client.request('PATCH', `${my.path}/${id}`, {
    body: { events: [{ send: 'succeeded', receive: 'bogus' }] },
  });
  assert.equal(changed.status, 422);
});

test('a test delivers what the client wrote, with its nulls, and only what the contract can show again', async () => {
  const id = await my.register(receiver, [{ test: 'created' }]);
  const payment = await me.receive();
  const payload = { type: 'receive', detail: { event: 'completed', data: payment } };
  assert.ok(Object.values(payment).includes(null), 'a payment has fields that are null');
  const delivery_id = randomUUID();
  assert.equal((await tryOut(id, payload, delivery_id)).status, 202);
  const shown = await my.until(id, delivery_id, ({ status }) => status === 'succeeded');
  assert.deepEqual(shown.payload, payload);
  const [delivered] = receiver.received.filter((one) => one.delivery_id === delivery_id);
  assert.deepEqual(JSON.parse(delivered?.raw_body ?? ''), payload);
  const bad = [
    { type: 'receive', detail: { event: 'completed', data: {} } },
    { type: 'send', detail: { event: 'succeeded', data: { id: randomUUID() } } },
    { type: 'receive', detail: { event: 'completed', data: { ...payment, created_at: null } } },
    { type: 'receive', detail: { event: 'completed', data: { ...payment, requested_amount: 7 } } },
    { type: 'test', detail: { event: 'created', data: null } },
  ];
  for (const one of bad) {
    const answer = await tryOut(id, one);
    assert.equal(answer.status, 422, `${JSON.stringify(one)}: ${answer.text}`);
    assert.match(answer.text, /payload/);
  }
  assert.equal((await my.deliveries(id)).length, 1);
});

test('an environment has up to 100 webhooks, also when they are made at once; deleted ones do not count', async () => {
  const organization = server.credentials.organization_id;
  const environment_id = await newEnvironment(server.db, organization, 'staging');
  const key = await newKey(server.db, { organization_id: organization, environment_id }, ['WRITE']);
  const client = createClient(server.base_url, key);
  const path = `/organizations/${organization}/environments/${environment_id}/webhooks`;
  const make = (id: string = randomUUID()) =>
    client.request('POST', path, {
      body: { id, url: receiver.url, name: 'hook', events: [{ test: 'created' }] },
    });
  const answers = await Promise.all(Array.from({ length: 104 }, () => make()));
  const refused = answers.filter(({ status }) => status === 400);
  assert.equal(refused.length, 4);
  for (const { text } of refused) assert.match(text, /invalid_webhook.*100 webhooks/);
  const made = answers.find(({ status }) => status === 202)?.body as { id: string };
  assert.equal((await make(made.id)).status, 409);
  assert.equal((await client.request('DELETE', `${path}/${made.id}`)).status, 202);
  assert.equal((await make()).status, 202);
  assert.equal((await make()).status, 400);
});

test('an environment has so many streams open; the others have theirs', async () => {
  const small = await startTestServer({ COULOMB_MAX_STREAMS_PER_ENVIRONMENT: '2' });
  const other = await newTenant(small.db);
  const open = ({ organization_id, environment_id, api_key }: typeof other) =>
    openStream(`${small.base_url}/organizations/${organization_id}/environments/${environment_id}/events`, {
      'x-api-key': api_key,
    });
  const opened = [await open(small.credentials), await open(small.credentials)];
  const third = await open(small.credentials);
  assert.equal(third.status, 503);
  opened.push(await open(other));
  assert.deepEqual(
    opened.map(({ status }) => status),
    [200, 200, 200],
  );
  for (const stream of opened) stream.close();
  await small.stop();
});

test('without a secret key a server starts on a database of others, and says why it makes no webhook', async () => {
  const database = await createTestDatabase();
  const data_dir = mkdtempSync(join(tmpdir(), 'coulomb-no-key-'));
  const tenant = await newTenant(database.db);
  const other = await spawnServer(database.url, {
    COULOMB_SECRET_KEY: '',
    COULOMB_DATA_DIR: data_dir,
    COULOMB_LOG_LEVEL: 'warn',
  });
  const answer = await createClient(other.base_url, tenant.api_key).request(
    'POST',
    `/organizations/${tenant.organization_id}/environments/${tenant.environment_id}/webhooks`,
    { body: { id: randomUUID(), url: receiver.url, name: 'hook', events: [{ test: 'created' }] } },
  );
  assert.equal(answer.status, 400, answer.text);
  assert.match(answer.text, /invalid_webhook.*COULOMB_SECRET_KEY/);
  assert.match(other.output(), /no COULOMB_SECRET_KEY is set/);
  assert.ok(!existsSync(join(data_dir, 'secret.key')));
  await other.kill('SIGTERM');
  rmSync(data_dir, { recursive: true });
  await database.drop();
});
