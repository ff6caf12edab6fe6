import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { systemClock, type Clock } from '../src/core/clock.ts';
import { createClient } from './client.ts';
import { hooks } from './hooks.ts';
import { openReceiver, openServer } from './setup.ts';
import { newEnvironment, newKey } from './tenant.ts';

const HOUR_MS = 3_600_000;
let ahead_ms = 0;
const clock: Clock = { now: () => systemClock.now() + ahead_ms };
/** What names resolve to; a name may change its mind. */
const names = new Map<string, string[]>();
const asked: string[] = [];

const { server, me } = await openServer({}, clock, undefined, (hostname) => {
  asked.push(hostname);
  const found = names.get(hostname);
  const [address] = found ?? [];
  if (found && found.length > 1) found.shift();
  return address === undefined
    ? Promise.reject(new Error('no such name'))
    : Promise.resolve([{ address, family: address.includes(':') ? 6 : 4 }]);
});
const my = hooks(server.client, me.base);
const receiver = await openReceiver();

const TEST = { type: 'test', detail: { event: 'created', data: 'hello' } };
async function sendTest(webhook: string, on = my): Promise<string> {
  const delivery_id = randomUUID();
  await on.call('POST', `${on.path}/${webhook}/test`, { delivery_id, payload: TEST });
  return delivery_id;
}
const refusal = async (method: string, path: string, body?: unknown, client = server.client) => {
  const answer = await client.request(method, path, body === undefined ? {} : { body });
  const { error } = answer.body as { error: { type: string; context?: unknown } };
  return [answer.status, error.type, error.context];
};
const told = (webhook: string) => receiver.received.filter(({ webhook_id }) => webhook_id === webhook);

test('a rotation signs with the new secret at once, and tells receivers that have the old one for a day', async () => {
  const id = await my.register(receiver);
  const [old = ''] = receiver.secrets.get(id) ?? [];
  const made = (await my.call('POST', `${my.path}/${id}/keys`)) as { id: string; shared_secret: string };
  assert.equal(made.id, id);
  assert.notEqual(made.shared_secret, old);
  receiver.secrets.set(id, [made.shared_secret]);
  await my.until(id, await sendTest(id), ({ status }) => status === 'succeeded');
  const handoff = receiver.requests.at(-1)?.headers['x-coulomb-previous-signature'];
  assert.match(String(handoff), /^[A-Za-z0-9+/]{43}=$/);
  ahead_ms += 25 * HOUR_MS;
  receiver.secrets.set(id, [made.shared_secret]);
  receiver.behave = (_request, response) => (response.writeHead(200).end(), true);
  await my.until(id, await sendTest(id), ({ status }) => status === 'succeeded');
  assert.equal(receiver.requests.at(-1)?.headers['x-coulomb-previous-signature'], undefined);
  receiver.behave = null;
  ahead_ms = 0;
  await my.call('DELETE', `${my.path}/${id}`);
});

test('secrets are stored sealed, also in the answer that an Idempotency-Key replays', async () => {
  const id = randomUUID();
  const body = { id, url: receiver.url, name: 'sealed', events: [{ send: 'succeeded' }] };
  const key = { 'idempotency-key': randomUUID() };
  const first = await server.client.request('POST', my.path, { body, headers: key });
  const second = await server.client.request('POST', my.path, { body, headers: key });
  assert.equal(first.status, 202);
  assert.equal(second.text, first.text, 'the same secret again');
  const { shared_secret } = first.body as { shared_secret: string };
  for (const table of ['webhooks', 'idempotency_keys']) {
    const rows = await server.db.query(`SELECT t::text AS text FROM ${table} t`);
    assert.ok(rows.length > 0 && rows.every(({ text }) => !String(text).includes(shared_secret)), table);
  }
  assert.ok(!JSON.stringify(await my.get(id)).includes(shared_secret));
  await my.call('DELETE', `${my.path}/${id}`);
});

test('deliveries are listed in both paginations, filtered, counted, and read one by one', async () => {
  const id = await my.register(receiver);
  const ids: string[] = [];
  for (let index = 0; index < 5; index += 1) ids.push(await sendTest(id));
  for (const delivery of ids) await my.until(id, delivery, ({ status }) => status === 'succeeded');
  for (const sort_key of ['created_at', 'updated_at']) {
    const seen: string[] = [];
    let cursor = '';
    do {
      const query = `?pagination=cursor&limit=2&sort_key=${sort_key}&sort_order=ASC${cursor}`;
      const page = (await my.call('GET', `${my.path}/${id}/deliveries${query}`)) as {
        items: { id: string }[];
        next_cursor: string | null;
        total?: number;
      };
      assert.equal(page.total, undefined);
      seen.push(...page.items.map((item) => item.id));
      cursor = page.next_cursor === null ? '' : `&cursor=${page.next_cursor}`;
    } while (cursor !== '');
    assert.deepEqual(
      sort_key === 'created_at' ? seen : seen.toSorted(),
      sort_key === 'created_at' ? ids : ids.toSorted(),
    );
  }
  const page = (await my.call('GET', `${my.path}/${id}/deliveries?offset=3&statuses=succeeded`)) as {
    items: object[];
    total: number;
    offset: number;
  };
  assert.deepEqual([page.items.length, page.total, page.offset], [2, 5, 3]);
  assert.deepEqual(await my.deliveries(id, '?statuses=failed&statuses=abandoned'), []);
  assert.deepEqual(await my.deliveries(id, '?statuses=attempting'), []);
  assert.deepEqual(await my.call('GET', `${my.path}/${id}/deliveries/summary`), {
    webhook_id: id,
    statuses: [],
    total_count: 5,
    total_count_accuracy: 'exact',
  });
  const none = (await my.call('GET', `${my.path}/${id}/deliveries/summary?statuses[]=failed`)) as object;
  assert.deepEqual(none, { ...none, statuses: ['failed'], total_count: 0 });
  assert.deepEqual(await refusal('GET', `${my.path}/${id}/deliveries?cursor=x`), [
    400,
    'invalid_parameter',
    undefined,
  ]);
  await my.call('DELETE', `${my.path}/${id}`);
});

test('a delivery can be abandoned, and begun again; all that failed can be begun again at once', async () => {
  const id = await my.register(receiver);
  const since = new Date(clock.now() - 1000).toISOString();
  let up = false;
  receiver.behave = (_request, response) => !up && (response.writeHead(500).end(), true);
  const ids = [await sendTest(id), await sendTest(id), await sendTest(id)];
  for (const delivery of ids) await my.until(id, delivery, ({ attempt_count }) => attempt_count > 0);
  const [given_up = '', ...others] = ids;
  await my.call('POST', `${my.path}/${id}/deliveries/${given_up}/abandon`);
  await my.call('POST', `${my.path}/${id}/deliveries/${given_up}/abandon`);
  assert.equal((await my.delivery(id, given_up)).status, 'abandoned');
  // Each pause of the schedule passes; after a day they have failed.
  for (const delivery of others) {
    for (;;) {
      const shown = await my.delivery(id, delivery);
      if (shown.status === 'failed') break;
      ahead_ms += HOUR_MS;
      await new Promise((done) => setTimeout(done, 250));
    }
  }
  assert.deepEqual(
    (await my.deliveries(id, '?statuses=failed')).map((one) => one.id).toSorted(),
    others.toSorted(),
  );
  up = true;
  ahead_ms = 0;
  receiver.behave = null;
  const begun = await my.call('POST', `${my.path}/${id}/deliveries/retry`, { since, statuses: ['failed'] });
  assert.deepEqual(begun, { retried: 2, has_more: false });
  for (const delivery of others) await my.until(id, delivery, ({ status }) => status === 'succeeded');
  await my.call('POST', `${my.path}/${id}/deliveries/${given_up}/retry`);
  const last = await my.until(id, given_up, ({ status }) => status === 'succeeded');
  assert.ok(last.attempt_count >= 2, 'attempts are counted over all rounds');
  assert.deepEqual((await refusal('POST', `${my.path}/${id}/deliveries/${given_up}/abandon`)).slice(0, 2), [
    400,
    'invalid_webhook',
  ]);
  await my.call('DELETE', `${my.path}/${id}`);
});

test('threat 14: a registration that hangs or fails delays no other, and its payments stay in order', async () => {
  const hanging = createServer(() => {});
  await new Promise<void>((done) => hanging.listen(0, '127.0.0.1', done));
  const { port } = hanging.address() as { port: number };
  const stuck = await my.register(receiver, undefined, `http://127.0.0.1:${port}/`);
  const refused = await my.register(receiver, undefined, 'http://127.0.0.1:9/');
  const good = await my.register(receiver);
  const payments: string[] = [];
  for (let index = 0; index < 60; index += 1) {
    const payment = await me.receive();
    await me.sandbox('payments', { payment_request: payment.data.payment_request });
    payments.push(payment.id);
  }
  await receiver.until(() => told(good).length === 180, 'all events at the one that answers');
  for (const payment of payments) {
    const events = told(good).filter(({ data }) => data.id === payment);
    assert.deepEqual(
      events.map(({ event }) => event),
      ['generated', 'succeeded', 'completed'],
    );
  }
  const [failing] = await my.deliveries(refused, '?limit=1&sort_order=ASC');
  assert.equal(failing?.error_info?.code, 'connection_refused');
  for (const id of [stuck, refused, good]) await my.call('DELETE', `${my.path}/${id}`);
  hanging.closeAllConnections();
  hanging.close();
});

test('threat 13: redirects are not followed, and what a receiver answers is not kept', async () => {
  let followed = 0;
  const elsewhere = createServer((_request, response) => {
    followed += 1;
    response.end();
  });
  await new Promise<void>((done) => elsewhere.listen(0, '127.0.0.1', done));
  const { port } = elsewhere.address() as { port: number };
  receiver.behave = (_request, response) => (
    response.writeHead(307, { location: `http://127.0.0.1:${port}/?canary` }).end('canary'),
    true
  );
  const id = await my.register(receiver);
  const shown = await my.until(id, await sendTest(id), ({ attempt_count }) => attempt_count > 0);
  assert.equal(shown.error_info?.code, 'invalid_response');
  assert.equal(shown.status_code, 307);
  assert.equal(followed, 0);
  assert.ok(!JSON.stringify(shown).includes('canary'));
  const [kept] = await server.db.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM webhook_deliveries d WHERE d::text LIKE '%canary%') AS found`,
  );
  assert.equal(kept?.found, false);
  receiver.behave = null;
  await my.call('DELETE', `${my.path}/${id}`);
  elsewhere.close();
});

test('threat 13: in production a name that resolves inside is refused, also when it changes its mind later', async () => {
  const { organization_id } = server.credentials;
  const environment_id = await newEnvironment(server.db, organization_id, 'production');
  const key = await newKey(server.db, { organization_id, environment_id }, ['WRITE']);
  const client = createClient(server.base_url, key);
  const path = `/organizations/${organization_id}/environments/${environment_id}`;
  const there = hooks(client, path);
  names.set('inside.example', ['10.1.2.3']);
  names.set('v6.example', ['::1']);
  const events = [{ test: 'created' }];
  const body = (url: string) => ({ id: randomUUID(), name: 'x', url, events });
  for (const url of [
    'https://inside.example',
    'https://v6.example:8443',
    'https://127.0.0.1',
    receiver.url,
  ]) {
    assert.deepEqual(
      (await refusal('POST', there.path, body(url), client)).slice(0, 2),
      [400, 'invalid_webhook'],
      url,
    );
  }
  // Public when it is registered, inside when it is called.
  names.set('rebound.example', ['93.184.216.34', '127.0.0.1']);
  const made = body('https://rebound.example');
  await there.call('POST', there.path, made);
  const patch = { url: 'https://inside.example', events };
  const refused = await refusal('PATCH', `${there.path}/${made.id}`, patch, client);
  assert.deepEqual(refused.slice(0, 2), [400, 'invalid_webhook']);
  asked.length = 0;
  const shown = await there.until(
    made.id,
    await sendTest(made.id, there),
    ({ attempt_count }) => attempt_count > 0,
  );
  assert.ok(asked.includes('rebound.example'), 'asked again at the connection');
  assert.equal(shown.error_info?.code, 'unexpected_error');
  assert.match(JSON.stringify(shown.error_info), /not allowed/);
  const order = { type: 'receive', detail: { event: 'completed', data: { id: randomUUID() } } };
  const forged = { delivery_id: randomUUID(), payload: order };
  assert.deepEqual(
    (await refusal('POST', `${there.path}/${made.id}/test`, forged, client)).slice(0, 2),
    [400, 'invalid_webhook'],
    'nobody can have a false order signed',
  );
});

test('every operation answers a webhook or delivery that is not there, or another tenant, alike', async () => {
  const id = randomUUID();
  const missing = [404, 'webhook_not_found', { webhook_id: id }];
  const one = `${my.path}/${id}`;
  const events = [{ send: 'failed' }];
  const calls: [string, string, unknown?][] = [
    ['GET', one],
    ['PATCH', one, { events }],
    ['DELETE', one],
    ['POST', `${one}/keys`],
    ['POST', `${one}/start`],
    ['POST', `${one}/stop`],
    ['POST', `${one}/test`, { delivery_id: id, payload: TEST }],
    ['GET', `${one}/deliveries`],
    ['GET', `${one}/deliveries/summary`],
    ['GET', `${one}/deliveries/${id}`],
    ['POST', `${one}/deliveries/${id}/abandon`],
    ['POST', `${one}/deliveries/${id}/retry`],
    ['POST', `${one}/deliveries/retry`, { since: '2026-01-01T00:00:00Z' }],
  ];
  for (const [method, path, body] of calls)
    assert.deepEqual(await refusal(method, path, body), missing, path);
  const mine = await my.register(receiver, events);
  const gone = [404, 'webhook_delivery_not_found', { webhook_delivery_id: id }];
  for (const [method, what] of [
    ['GET', id],
    ['POST', `${id}/abandon`],
    ['POST', `${id}/retry`],
  ] as const) {
    assert.deepEqual(await refusal(method, `${my.path}/${mine}/deliveries/${what}`), gone, what);
  }
  const again = { id: mine, url: receiver.url, name: 'again', events };
  assert.deepEqual(await refusal('POST', my.path, again), [409, 'webhook_exists', { webhook_id: mine }]);
  const incomplete = { id: mine, name: 'again', events };
  assert.deepEqual((await refusal('POST', my.path, incomplete)).slice(0, 2), [422, 'invalid_data']);
  await my.call('DELETE', `${my.path}/${mine}`);
  assert.equal((await my.get(mine))['status'], 'deleted');
  assert.deepEqual(await refusal('POST', `${my.path}/${mine}/start`), [
    404,
    'webhook_not_found',
    { webhook_id: mine },
  ]);
});

test('the list shows the environment, filtered and sorted; events come back one by one', async () => {
  const id = await my.register(receiver, [
    { send: ['succeeded', 'failed'] },
    { receive: 'completed' },
    { send: 'failed' },
  ]);
  const { organization_id, environment_id } = server.credentials;
  const list = async (query: string) =>
    (await my.call('GET', `/organizations/${organization_id}/webhooks${query}`)) as {
      id: string;
      events: object[];
    }[];
  const mine = (await list('')).find((webhook) => webhook.id === id);
  assert.deepEqual(mine?.events, [{ send: 'succeeded' }, { send: 'failed' }, { receive: 'completed' }]);
  await my.call('POST', `${my.path}/${id}/stop`);
  assert.ok((await list('?statuses[]=stopped')).some((webhook) => webhook.id === id));
  assert.ok(
    !(await list(`?statuses=active&environment_ids=${environment_id}`)).some((webhook) => webhook.id === id),
  );
  assert.deepEqual(await list(`?environment_ids=${randomUUID()}`), []);
  const sdk = (await server.sdk.getWebhooks({
    organization_id,
    statuses: ['stopped'],
    sort_order: 'ASC',
  })) as { id: string }[];
  assert.ok(sdk.some((webhook) => webhook.id === id));
  await server.sdk.startWebhook({ organization_id, environment_id, webhook_id: id });
  assert.equal(
    (await server.sdk.getWebhook({ organization_id, environment_id, webhook_id: id })).status,
    'active',
  );
  const secret = await server.sdk.generateWebhookKey({ organization_id, environment_id, webhook_id: id });
  assert.match(secret.shared_secret, /^whsec_/);
  const created = await server.sdk.createWebhook({
    organization_id,
    environment_id,
    webhook: {
      id: randomUUID(),
      url: receiver.url,
      name: 'by the client',
      events: [{ receive: ['completed', 'failed'] }],
    },
  });
  await server.sdk.updateWebhook({
    organization_id,
    environment_id,
    webhook_id: created.id,
    webhook: { url: receiver.url, name: 'renamed', events: [{ send: ['failed'] }] },
  });
  assert.deepEqual((await my.get(created.id))['events'], [{ send: 'failed' }]);
  await server.sdk.stopWebhook({ organization_id, environment_id, webhook_id: created.id });
  await server.sdk.deleteWebhook({ organization_id, environment_id, webhook_id: created.id });
  assert.equal((await my.get(created.id))['status'], 'deleted');
});
