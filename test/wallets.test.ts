import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { Client } from './client.ts';
import { newTenant, rolledUp } from './fixtures.ts';
import { atEnd, openServer } from './setup.ts';
import { newEnvironment, newKey, withKey } from './tenant.ts';

const { server, me } = await openServer();
const list = `/organizations/${server.credentials.organization_id}/wallets`;
atEnd(() => rolledUp(server.db));

const bodyOf = (fields: object = {}) => ({
  id: randomUUID(),
  environment_id: server.credentials.environment_id,
  line_of_credit_id: server.credentials.line_of_credit_id,
  name: 'savings',
  network: 'mutinynet',
  limit: 0,
  ...fields,
});
const create = (body: object, client: Client = server.client, path = list) =>
  client.request('POST', path, { body });
async function refused(
  body: object,
  type: string,
  context?: object,
  client?: Client,
  path?: string,
): Promise<void> {
  const answer = await create(body, client, path);
  const { error } = answer.body as { error: { type: string; context?: object } };
  assert.deepEqual([error.type, error.context], [type, context], answer.text);
}
async function shown(id: string): Promise<Record<string, unknown>> {
  const answer = await server.client.request('GET', `${list}/${id}`);
  assert.equal(answer.status, 200, answer.text);
  return answer.body as Record<string, unknown>;
}
async function ids(query = '', client: Client = server.client): Promise<string[]> {
  const answer = await client.request('GET', `${list}${query}`);
  assert.equal(answer.status, 200, answer.text);
  return (answer.body as { id: string }[]).map(({ id }) => id);
}
async function allocated(line_id = server.credentials.line_of_credit_id): Promise<number> {
  const path = `/organizations/${server.credentials.organization_id}/lines_of_credit/${line_id}/summary`;
  return ((await server.client.request('GET', path)).body as { allocated_limit: number }).allocated_limit;
}

test('a wallet reads back at once as it was created, with an empty balance', async () => {
  const { organization_id, environment_id, line_of_credit_id } = server.credentials;
  const body = bodyOf({ limit: 5000, metadata: { tag: 'testing wallet' } });
  const answer = await create(body);
  assert.deepEqual([answer.status, answer.text], [202, '']);
  const wallet = await shown(body.id);
  const { created_at } = wallet;
  const amount = (value: number) => ({ currency: 'btc', amount: value, unit: 'msats', negative: false });
  assert.match(String(created_at), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  assert.deepEqual(wallet, {
    id: body.id,
    active: true,
    created_at,
    updated_at: created_at,
    deleted_at: null,
    deletion_failed_at: null,
    name: 'savings',
    organization_id,
    environment_id,
    limit: 5000,
    line_of_credit_id,
    network: 'mutinynet',
    metadata: { tag: 'testing wallet' },
    balances: [
      {
        id: body.id,
        wallet_id: body.id,
        effective_time: created_at,
        available: amount(5000),
        total: amount(0),
        network: 'mutinynet',
        currency: 'btc',
      },
    ],
    holds: [],
    pending_settlements: [],
    error: null,
  });
});

test('a request that cannot be served names every field at fault', async () => {
  await refused(bodyOf({ network: 'mainnet' }), 'invalid_request', { fields: ['network'] });
  await refused(bodyOf({ limit: 2_100_000_000_000_000_001n }), 'invalid_request', { fields: ['limit'] });
  await refused(bodyOf({ network: 'testnet3', limit: 2n ** 64n - 1n }), 'invalid_request', {
    fields: ['network', 'limit'],
  });
  await refused(bodyOf({ id: server.credentials.wallet_id }), 'invalid_request', { fields: ['id'] });
});

test('a repeated creation hears that the id is used, even when the first one took all of the limit', async () => {
  const free = 1_000_000_000 - (await allocated());
  const body = bodyOf({ limit: free });
  assert.equal((await create(body)).status, 202);
  await refused(body, 'invalid_request', { fields: ['id'] });
  await refused(bodyOf({ limit: 1 }), 'line_of_credit_cannot_allocate_wallet_limit');
  assert.equal((await server.client.request('DELETE', `${list}/${body.id}`)).status, 202);
  assert.equal(await allocated(), 1_000_000_000 - free, 'a deleted wallet gives its limit back');
});

test('parallel creations never allocate more than the line has', async () => {
  const free = 1_000_000_000 - (await allocated());
  const share = Math.floor(free / 3);
  const answers = await Promise.all(Array.from({ length: 8 }, () => create(bodyOf({ limit: share }))));
  assert.equal(answers.filter(({ status }) => status === 202).length, 3);
  for (const id of await ids()) {
    if ((await shown(id))['limit'] === share) await server.client.request('DELETE', `${list}/${id}`);
  }
});

test('shapes that the schema forbids are 422', async () => {
  const whole = bodyOf();
  for (const fields of [
    { name: 'ab' },
    { name: 'a'.repeat(257) },
    { name: undefined },
    { name: 'a\0b' },
    { limit: -1 },
    { limit: 0.5 },
    { limit: '5' },
    { limit: null },
    { network: 'testnet' },
    { network: 'regtest' },
    { id: 'no-uuid' },
    { metadata: { a: 1 } },
    { metadata: [] },
  ]) {
    const answer = await create({ ...whole, ...fields });
    assert.equal(answer.status, 422, `${JSON.stringify(fields)}: ${answer.text}`);
  }
  assert.equal(
    (await create({ ...bodyOf(), metadata: null, unknown_field: 1 })).status,
    202,
    'null is absence',
  );
});

test('ids are the same in either case', async () => {
  const body = bodyOf();
  const upper = { ...body, id: body.id.toUpperCase(), environment_id: body.environment_id.toUpperCase() };
  assert.equal((await create(upper)).status, 202);
  assert.equal((await shown(body.id.toUpperCase()))['id'], body.id);
});

test("another environment than the key's is 403 in a body and empty in a filter", async () => {
  const { organization_id, environment_id } = server.credentials;
  const other = await newEnvironment(server.db, organization_id);
  for (const environment of [other, randomUUID()]) {
    await refused(bodyOf({ environment_id: environment }), 'access_rights');
    assert.deepEqual(await ids(`?environment_id=${environment}`), []);
  }
  assert.ok((await ids(`?environment_id=${environment_id}`)).includes(server.credentials.wallet_id));
});

test("another tenant's or environment's wallet answers exactly like an unknown one", async () => {
  const { organization_id, environment_id, wallet_id } = server.credentials;
  const other_key = await newKey(
    server.db,
    { organization_id, environment_id: await newEnvironment(server.db, organization_id) },
    ['WRITE'],
  );
  const tenant = await newTenant(server.db);
  const neighbour = withKey(server.client, other_key);
  const unknown = randomUUID();
  const requests: [string, string, object?][] = [
    ['GET', ''],
    ['GET', '/ledger'],
    ['PATCH', '', { body: { name: 'mine now' } }],
    ['DELETE', ''],
  ];
  for (const [method, suffix, options] of requests) {
    const foreign = await neighbour.request(method, `${list}/${wallet_id}${suffix}`, options);
    const missing = await neighbour.request(method, `${list}/${unknown}${suffix}`, options);
    const outside = await server.client.request(method, `${list}/${tenant.wallet_id}${suffix}`, options);
    assert.deepEqual([foreign.status, missing.status, outside.status], [404, 404, 404]);
    assert.equal(foreign.text.replaceAll(wallet_id, unknown), missing.text);
    assert.equal(outside.text.replaceAll(tenant.wallet_id, unknown), missing.text);
  }
  assert.deepEqual(await ids('', neighbour), []);
  // Wallet ids are unique per organization: another organization's is free.
  await refused(bodyOf({ id: wallet_id, environment_id }), 'invalid_request', { fields: ['id'] });
  assert.equal((await create(bodyOf({ id: tenant.wallet_id }))).status, 202);
});

test("another tenant's or environment's line answers exactly like an unknown one", async () => {
  const tenant = await newTenant(server.db);
  await refused(bodyOf({ line_of_credit_id: tenant.line_of_credit_id }), 'line_of_credit_not_found');
  await refused(bodyOf({ line_of_credit_id: randomUUID() }), 'line_of_credit_not_found');
});

/** A staging environment without wallets, and a client that may write in it. */
async function stagingEnvironment() {
  const { organization_id } = server.credentials;
  const environment_id = await newEnvironment(server.db, organization_id);
  const client = withKey(
    server.client,
    await newKey(server.db, { organization_id, environment_id }, ['WRITE']),
  );
  return { organization_id, environment_id, client };
}

test('the first wallet of a staging environment brings its line, and only the first', async () => {
  const { organization_id, environment_id, client } = await stagingEnvironment();
  const first = bodyOf({ environment_id, line_of_credit_id: randomUUID(), limit: 2_000_000_000 });
  // Two at once with lines of their own: one line is brought, the other is unknown.
  const second = bodyOf({ environment_id, line_of_credit_id: randomUUID(), limit: 2_000_000_000 });
  const answers = await Promise.all([create(first, client), create(second, client)]);
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([202, 400]));
  const won = answers[0]?.status === 202 ? first : second;
  const lines = await client.request('GET', `/organizations/${organization_id}/lines_of_credit/summaries`);
  const [line] = lines.body as Record<string, unknown>[];
  assert.deepEqual(
    [line?.['id'], line?.['limit'], line?.['allocated_limit'], line?.['network'], line?.['currency']],
    [won.line_of_credit_id, 2_000_000_000, 2_000_000_000, 'mutinynet', 'btc'],
  );
});

test('a new staging environment takes its first wallet and then its first webhook', async () => {
  const { organization_id, environment_id, client } = await stagingEnvironment();
  const first = bodyOf({ environment_id, line_of_credit_id: randomUUID(), limit: 0 });
  assert.equal((await create(first, client)).status, 202);
  const path = `/organizations/${organization_id}/environments/${environment_id}/webhooks`;
  // Each connection that served the wallets serves the webhooks, too.
  for (let index = 0; index < 10; index += 1) {
    const body = {
      id: randomUUID(),
      url: 'http://127.0.0.1:9/',
      name: 'hook',
      events: [{ test: 'created' }],
    };
    const answer = await client.request('POST', path, { body });
    assert.ok(answer.status < 300, answer.text);
  }
});

test('two first wallets that name one line share it', async () => {
  const { environment_id, client } = await stagingEnvironment();
  const line_of_credit_id = randomUUID();
  const answers = await Promise.all(
    Array.from({ length: 4 }, () =>
      create(bodyOf({ environment_id, line_of_credit_id, limit: 1000 }), client),
    ),
  );
  assert.deepEqual(
    answers.map(({ status }) => status),
    [202, 202, 202, 202],
  );
});

test('in production an unknown line is refused', async () => {
  const { organization_id } = server.credentials;
  const environment_id = await newEnvironment(server.db, organization_id, 'production');
  const client = withKey(
    server.client,
    await newKey(server.db, { organization_id, environment_id }, ['WRITE']),
  );
  const body = bodyOf({ environment_id, line_of_credit_id: randomUUID() });
  await refused(body, 'line_of_credit_not_found', undefined, client);
});

test('an organization without payments cannot create, rename or delete, and still reads', async () => {
  const tenant = await newTenant(server.db);
  await server.db.query(`UPDATE organizations SET features = '{}' WHERE id = $1`, [tenant.organization_id]);
  const client = withKey(server.client, tenant.api_key);
  const path = `/organizations/${tenant.organization_id}/wallets`;
  const { environment_id, line_of_credit_id, wallet_id } = tenant;
  const context = { feature: 'payments' };
  await refused(
    bodyOf({ environment_id, line_of_credit_id }),
    'feature_flag_disabled',
    context,
    client,
    path,
  );
  const renamed = await client.request('PATCH', `${path}/${wallet_id}`, { body: { name: 'renamed' } });
  assert.equal(renamed.status, 400);
  assert.equal((await client.request('DELETE', `${path}/${wallet_id}`)).status, 400);
  assert.equal((await client.request('GET', `${path}/${wallet_id}`)).status, 200);
});

test('permissions: reading needs READ, changing needs WRITE', async () => {
  const { wallet_id } = server.credentials;
  const as = async (permission: string) =>
    withKey(server.client, await newKey(server.db, server.credentials, [permission]));
  const reader = await as('READ');
  assert.equal((await reader.request('GET', `${list}/${wallet_id}/ledger`)).status, 200);
  assert.equal((await create(bodyOf(), reader)).status, 403);
  assert.equal((await reader.request('DELETE', `${list}/${wallet_id}`)).status, 403);
  for (const permission of ['RECEIVE', 'BILLING']) {
    const client = await as(permission);
    assert.equal((await client.request('GET', list)).status, 403);
    assert.equal((await client.request('GET', `${list}/${wallet_id}`)).status, 403);
  }
});

test('renaming changes name and updated_at, within the same bounds as creation', async () => {
  const body = bodyOf();
  await create(body);
  const before_it = await shown(body.id);
  const rename = (name: unknown) => server.client.request('PATCH', `${list}/${body.id}`, { body: { name } });
  const answer = await rename('a new name');
  assert.deepEqual([answer.status, answer.text], [202, '']);
  const renamed = await shown(body.id);
  assert.equal(renamed['name'], 'a new name');
  assert.ok(String(renamed['updated_at']) > String(before_it['updated_at']));
  for (const name of [5, null, 'a\0b']) assert.equal((await rename(name)).status, 422);
});

test('a wallet with money, a debt, a hold or an open receive is not deleted', async () => {
  const id = await me.newWallet(1_000_000);
  const path = `${list}/${id}`;
  const refusedNow = async (why: string): Promise<void> => {
    const answer = await server.client.request('DELETE', path);
    const { error } = answer.body as { error: { type: string; context: unknown } };
    assert.deepEqual([error.type, error.context], ['wallet_not_empty', { wallet_id: id }], why);
  };
  const receive = await me.receive({
    wallet_id: id,
    expiration: 1,
    amount: { currency: 'btc', amount: 9000 },
  });
  await refusedNow('an open receive');
  await me.ended(receive.id);
  await me.fund(9000, id);
  await refusedNow('money');
  const stuck = await me.outsideInvoice({ amount_msats: 1000, behavior: 'stuck' });
  const send = me.sendBody({ payment_request: stuck.payment_request }, { wallet_id: id });
  await me.accept(send);
  await refusedNow('a hold');
  await me.release(stuck.payment_hash, 'settle');
  assert.equal((await me.ended(send.id)).status, 'completed');
  const out = await me.outsideInvoice({ amount_msats: 8500 });
  await me.send({ payment_request: out.payment_request }, { wallet_id: id });
  assert.equal((await me.balance(id)).total, -500);
  await refusedNow('a debt');
  await me.fund(500, id);
  assert.equal((await server.client.request('DELETE', path)).status, 202);
});

test('a deleted wallet reads with deleted_at, is listed on demand, and takes no payments or changes', async () => {
  const id = await me.newWallet(700);
  const before_it = await allocated();
  assert.equal((await server.client.request('DELETE', `${list}/${id}`)).status, 202);
  const wallet = await shown(id);
  assert.equal(wallet['active'], false);
  assert.match(String(wallet['deleted_at']), /Z$/);
  assert.equal(await allocated(), before_it - 700);
  assert.ok(!(await ids()).includes(id));
  assert.ok((await ids('?inactive=true')).includes(id));
  assert.ok((await ids('?inactive=true')).includes(server.credentials.wallet_id));
  assert.equal(
    (await server.client.request('DELETE', `${list}/${id}`)).status,
    202,
    'repeating it is harmless',
  );
  assert.equal(await allocated(), before_it - 700, 'and frees nothing twice');
  const renamed = await server.client.request('PATCH', `${list}/${id}`, { body: { name: 'again' } });
  assert.equal(renamed.status, 404);
  const receive = { id: randomUUID(), wallet_id: id, payment_kind: 'bolt11', amount_msats: 1000 };
  assert.equal((await me.create(receive)).status, 400);
  await refused(bodyOf({ id }), 'invalid_request', { fields: ['id'] });
});

test('the list is newest first', async () => {
  const [first, second] = [await me.newWallet(), await me.newWallet()];
  assert.deepEqual((await ids()).slice(0, 2), [second, first]);
});

test('a hold shows in the wallet with its amount until it ends', async () => {
  const id = await me.newWallet();
  await me.fund(500_000, id);
  const stuck = await me.outsideInvoice({ amount_msats: 100_000, behavior: 'stuck' });
  const send = me.sendBody(
    { payment_request: stuck.payment_request, max_fee: { currency: 'btc', amount: 2000 } },
    { wallet_id: id },
  );
  await me.accept(send);
  const wallet = await me.wallet(id);
  const [hold] = wallet.holds;
  assert.deepEqual(hold?.amount, { currency: 'btc', amount: 102_000, unit: 'msats', negative: false });
  assert.equal(wallet.balances[0]?.available.amount, 398_000);
  assert.equal(wallet.balances[0]?.total.amount, 500_000);
  const [event] = await me.ledger(id);
  assert.equal((event as { hold_id?: string }).hold_id, hold?.id);
  await me.release(stuck.payment_hash, 'fail');
  await me.ended(send.id);
  assert.deepEqual(await me.balance(id), { available: 500_000, total: 500_000, holds: 0 });
});
