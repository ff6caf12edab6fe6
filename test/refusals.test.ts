import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { createKey, revokeKey } from '../src/admin/keys.ts';
import { setFeatures } from '../src/admin/operator.ts';
import { createClient, type Answer, type RequestOptions } from './client.ts';
import { newTenant } from './fixtures.ts';
import { openServer } from './setup.ts';

const { server, me } = await openServer();

interface ErrorShown {
  type: string;
  code?: string;
  detail: string;
  context?: Record<string, unknown>;
}
const errorOf = (answer: Answer): ErrorShown => (answer.body as { error: ErrorShown }).error;
function refused(answer: Answer, status: number, type: string, code?: string): ErrorShown {
  assert.equal(answer.status, status, answer.text);
  const error = errorOf(answer);
  assert.equal(error.type, type, answer.text);
  if (code !== undefined) assert.equal(error.code, code);
  return error;
}
const post = (options: RequestOptions) => server.client.request('POST', `${me.base}/payments`, options);
const receiveBody = (fields: object = {}) => ({
  id: randomUUID(),
  wallet_id: server.credentials.wallet_id,
  payment_kind: 'bolt11',
  amount: { currency: 'btc', amount: 1000 },
  ...fields,
});

describe('the order of refusals', () => {
  test('a body that is not JSON by its type is 415, even without credentials', async () => {
    const stranger = createClient(server.base_url, null);
    const answer = await stranger.request('POST', `${me.base}/payments`, {
      raw_body: '{}',
      headers: { 'content-type': 'text/plain' },
    });
    refused(answer, 415, 'missing_content_type');
  });
  test('a body over 1 MiB is 413', async () => {
    refused(await post({ raw_body: `"${'x'.repeat(1_048_577)}"` }), 413, 'payload_too_large');
  });
  test('a body that does not parse is 400 invalid_syntax before credentials are asked for', async () => {
    const stranger = createClient(server.base_url, null);
    const answer = await stranger.request('POST', `${me.base}/payments`, { raw_body: '{"id":' });
    refused(answer, 400, 'invalid_syntax');
  });
  test('no credential is 400, a wrong one 401, a bearer token 401 until an issuer is configured', async () => {
    const path = `${me.base}/payments`;
    refused(await createClient(server.base_url, null).request('GET', path), 400, 'missing_credentials');
    refused(await createClient(server.base_url, 'vltg_wrong').request('GET', path), 401, 'wrong_credentials');
    const bearer = { headers: { authorization: 'Bearer abc' } };
    refused(await createClient(server.base_url, null).request('GET', path, bearer), 401, 'invalid_token');
  });
  test('another organization or environment is 403, existing or not, before the shape is looked at', async () => {
    const other = await newTenant(server.db);
    for (const organization of [other.organization_id, randomUUID()]) {
      const path = `/organizations/${organization}/environments/${server.credentials.environment_id}/payments`;
      refused(await server.client.request('POST', path, { body: {} }), 403, 'access_rights');
    }
    const path = `/organizations/${server.credentials.organization_id}/environments/${other.environment_id}/payments`;
    refused(await server.client.request('GET', path), 403, 'access_rights');
  });
  test('a wrong shape is 422 and names the field', async () => {
    for (const [fields, field] of [
      [{ id: 'x' }, 'id'],
      [{ amount: { currency: 'btc', amount: 1.5 } }, 'amount.amount'],
      [{ amount: { currency: 'btc', amount: '1000' } }, 'amount.amount'],
      [{ payment_kind: 'carrier pigeon' }, 'payment_kind'],
      [{ metadata: { a: 1 } }, 'metadata'],
      [{ description: 'a\0b' }, 'description'],
      [{ metadata: Object.fromEntries(Array.from({ length: 51 }, (_, i) => [`k${i}`, 'v'])) }, 'metadata'],
    ] as const) {
      const error = refused(await post({ body: receiveBody(fields) }), 422, 'invalid_data');
      assert.ok(error.detail.includes(field), error.detail);
    }
    refused(await post({ raw_body: '[]' }), 422, 'invalid_data');
    refused(await post({ raw_body: '{"id":"x","amount":1e400}' }), 422, 'invalid_data');
  });
  test('a number that a double cannot hold is neither rounded nor taken for a whole one', async () => {
    const raw = JSON.stringify(receiveBody()).replace('"amount":1000', '"amount":1000.0000000000000001');
    refused(await post({ raw_body: raw }), 422, 'invalid_data');
  });
  test('a bad path or query value is 400 and names the parameter; an unknown parameter is ignored', async () => {
    for (const query of [
      'limit=-1',
      'limit=4294967296',
      'limit=x',
      'sort_key=amount',
      'wallet_id=1',
      'start_date=yesterday',
      'metadata=x',
      'statuses[]=paid',
    ]) {
      const error = refused(
        await server.client.request('GET', `${me.base}/payments?${query}`),
        400,
        'invalid_parameter',
      );
      assert.ok(error.detail.includes(query.split(/[=[]/)[0] ?? ''), error.detail);
    }
    refused(await server.client.request('GET', `${me.base}/payments/not-an-id`), 400, 'invalid_parameter');
    assert.equal((await server.client.request('GET', `${me.base}/payments?colour=red`)).status, 200);
  });
  test('an unknown route is 404 and a wrong method 405, in the same envelope', async () => {
    refused(await server.client.request('GET', '/nowhere'), 404, 'not_found');
    const answer = await server.client.request('DELETE', `${me.base}/payments`);
    refused(answer, 405, 'method_not_allowed');
    assert.match(answer.headers.get('allow') ?? '', /POST/);
  });
});

describe('threat 10: amounts', () => {
  test('0, negative and negative: true are below_minimum', async () => {
    for (const amount of [
      { currency: 'btc', amount: 0 },
      { currency: 'btc', amount: -5 },
      { currency: 'btc', amount: 5, negative: true },
    ]) {
      const error = refused(
        await post({ body: receiveBody({ amount }) }),
        400,
        'invalid_amount',
        'below_minimum',
      );
      assert.equal(error.context?.['field'], 'amount');
    }
  });
  test('more than 21 million BTC, 2^63 and 2^64 are invalid_amount; the maximum is accepted and read back exactly', async () => {
    for (const amount of [2_100_000_000_000_000_001n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n]) {
      refused(
        await post({ body: receiveBody({ amount: { currency: 'btc', amount } }) }),
        400,
        'invalid_amount',
      );
    }
    const body = receiveBody({ amount: { currency: 'btc', amount: 2_100_000_000_000_000_000n } });
    await me.accept(body);
    const shown = await server.client.request('GET', `${me.base}/payments/${body.id}`);
    assert.match(shown.text, /"amount_msats":2100000000000000000[,}]/);
  });
  test('on-chain amounts are whole sats and above dust', async () => {
    const onchain = (amount: number) => ({ payment_kind: 'onchain', amount: { currency: 'btc', amount } });
    refused(await post({ body: receiveBody(onchain(1_000_500)) }), 400, 'invalid_amount');
    refused(
      await post({ body: receiveBody(onchain(200_000)) }),
      400,
      'invalid_on_chain_payment',
      'below_minimum',
    );
  });
  test('deprecated amount fields work on every rail, and must agree with the object', async () => {
    const body = receiveBody({ amount: undefined, payment_kind: 'onchain', amount_msats: 5_000_000 });
    await me.accept(body);
    assert.equal((await me.get(body.id)).data.amount_sats, 5000);
    refused(await post({ body: receiveBody({ amount_msats: 2000 }) }), 400, 'amount_match_failed');
    await me.accept(receiveBody({ amount_msats: 1000, amount_sats: 1 }));
  });
  test('null is absence', async () => {
    const body = receiveBody({
      amount: null,
      amount_msats: null,
      currency: 'btc',
      description: null,
      metadata: null,
    });
    await me.accept(body);
    assert.equal((await me.get(body.id)).requested_amount, undefined);
  });
});

describe('invoices and addresses', () => {
  const send = (data: object, type = 'bolt11') => post({ body: me.sendBody(data, { type }) });
  test('an invoice that does not decode, or is for another chain, is refused with its own type', async () => {
    refused(await send({ payment_request: 'lntbs1nonsense' }), 400, 'invalid_bolt11_payment_request');
    refused(await send({ payment_request: '' }), 400, 'missing_payment_request', 'required');
    const mainnet =
      'lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh';
    refused(await send({ payment_request: mainnet }), 400, 'invalid_network');
  });
  test('an amount that differs from the invoice is amount_match_failed', async () => {
    const { payment_request } = await me.outsideInvoice({ amount_msats: 5000 });
    refused(
      await send({ payment_request, amount: { currency: 'btc', amount: 5001 } }),
      400,
      'amount_match_failed',
    );
  });
  test('an address of another network is invalid_network, a broken one invalid_address', async () => {
    const amount = { currency: 'btc', amount: 1_000_000 };
    const to = (address: string) => send({ address, amount }, 'onchain');
    refused(await to('bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh'), 400, 'invalid_network');
    refused(await to('tb1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh'), 400, 'invalid_address');
    refused(await to(''), 400, 'missing_address', 'required');
  });
  test('a URI with a required parameter that nobody knows, or one given twice, is refused', async () => {
    const { address } = await me.sandbox<{ address: string }>('addresses');
    for (const query of [
      'amount=0.001&req-tip=1',
      'amount=0.001&amount=0.002',
      'amount=1e-3',
      'amount=0.000000001',
    ]) {
      refused(await send({ address: `bitcoin:${address}?${query}` }, 'bip21'), 400, 'invalid_address');
    }
  });
});

describe('tenants, keys and features', () => {
  test("another tenant's wallet is as unknown as one that does not exist", async () => {
    const other = await newTenant(server.db);
    const answers = [];
    for (const wallet_id of [other.wallet_id, randomUUID()]) {
      answers.push(errorOf(await post({ body: receiveBody({ wallet_id }) })).type);
    }
    assert.deepEqual(answers, ['invalid_payment', 'invalid_payment']);
    const id = await me.accept(receiveBody());
    const theirs = createClient(server.base_url, other.api_key);
    const base = `/organizations/${other.organization_id}/environments/${other.environment_id}`;
    refused(await theirs.request('GET', `${base}/payments/${id}`), 404, 'payment_not_found');
    const history = await theirs.request('GET', `${base}/payments/${id}/history`);
    assert.deepEqual(history.body, { events: [] });
  });
  test('an id that another tenant used is free', async () => {
    const other = await newTenant(server.db);
    const theirs = createClient(server.base_url, other.api_key);
    const base = `/organizations/${other.organization_id}/environments/${other.environment_id}`;
    const body = receiveBody();
    await me.accept(body);
    const again = await theirs.request('POST', `${base}/payments`, {
      body: { ...body, wallet_id: other.wallet_id },
    });
    assert.equal(again.status, 202);
  });
  test('permissions: RECEIVE makes and reads receives only, READ changes nothing', async () => {
    const { organization_id, environment_id } = server.credentials;
    const key = (permissions: string[]) =>
      createKey(server.db, {
        organization_id,
        environment_id,
        name: 'k',
        permissions,
        expires_at: null,
        valid_ips: null,
      });
    const receiver = createClient(server.base_url, (await key(['RECEIVE'])).api_key);
    const body = receiveBody();
    assert.equal((await receiver.request('POST', `${me.base}/payments`, { body })).status, 202);
    assert.equal((await receiver.request('GET', `${me.base}/payments/${body.id}`)).status, 200);
    refused(await receiver.request('GET', `${me.base}/payments`), 403, 'access_rights');
    const send = me.sendBody({ payment_request: 'x' });
    refused(await receiver.request('POST', `${me.base}/payments`, { body: send }), 403, 'access_rights');
    // null is absence, and so no payment_kind: it must not pass for a receive where permission is judged.
    const disguised = { ...send, payment_kind: null };
    refused(await receiver.request('POST', `${me.base}/payments`, { body: disguised }), 403, 'access_rights');
    const reader = createClient(server.base_url, (await key(['READ'])).api_key);
    refused(
      await reader.request('POST', `${me.base}/payments`, { body: receiveBody() }),
      403,
      'access_rights',
    );
  });
  test('a key that is expired, revoked or used from elsewhere lets nobody in, at once', async () => {
    const { organization_id, environment_id } = server.credentials;
    const base = {
      organization_id,
      environment_id,
      name: 'k',
      permissions: ['READ'],
      expires_at: null,
      valid_ips: null,
    };
    const late = await createKey(server.db, { ...base, expires_at: '2020-01-01T00:00:00Z' });
    const path = `${me.base}/payments?limit=1`;
    refused(await createClient(server.base_url, late.api_key).request('GET', path), 401, 'wrong_credentials');
    const away = await createKey(server.db, { ...base, valid_ips: ['10.0.0.0/8'] });
    refused(await createClient(server.base_url, away.api_key).request('GET', path), 403, 'access_rights');
    const here = await createKey(server.db, { ...base, valid_ips: ['127.0.0.0/8', '::1'] });
    const client = createClient(server.base_url, here.api_key);
    assert.equal((await client.request('GET', path)).status, 200);
    await revokeKey(server.db, here.id);
    let answer = await client.request('GET', path);
    for (let tries = 0; answer.status === 200 && tries < 100; tries += 1)
      answer = await client.request('GET', path);
    refused(answer, 401, 'wrong_credentials');
  });
  test('a feature that is off is feature_flag_disabled with its name', async () => {
    const other = await newTenant(server.db);
    await setFeatures(server.db, other.organization_id, { onchain: false });
    const theirs = createClient(server.base_url, other.api_key);
    const path = `/organizations/${other.organization_id}/environments/${other.environment_id}/payments`;
    const body = receiveBody({
      wallet_id: other.wallet_id,
      payment_kind: 'onchain',
      amount_sats: 5000,
      amount: undefined,
    });
    const error = refused(
      await theirs.request('POST', path, { body }),
      400,
      'feature_flag_disabled',
      'disabled',
    );
    assert.deepEqual(error.context, { feature: 'onchain' });
  });
});

describe('replays', () => {
  test('the same Idempotency-Key with the same request gets the stored answer, with another 422', async () => {
    const body = receiveBody();
    const headers = { 'idempotency-key': randomUUID() };
    const first = await post({ body, headers });
    assert.equal(first.status, 202);
    assert.equal((await post({ body, headers })).status, 202);
    refused(await post({ body: receiveBody(), headers }), 422, 'invalid_data');
    assert.equal((await post({ body })).status, 409);
  });
  test('twins that run at once have one effect and one answer', async () => {
    const body = receiveBody();
    const headers = { 'idempotency-key': randomUUID() };
    const answers = await Promise.all(Array.from({ length: 8 }, () => post({ body, headers })));
    assert.deepEqual(
      answers.map(({ status }) => status),
      answers.map(() => 202),
    );
    assert.deepEqual((await me.history(body.id)).slice(0, 1), ['requested']);
  });
  test('100 parallel requests with one id make one payment', async () => {
    const body = receiveBody();
    const answers = await Promise.all(Array.from({ length: 100 }, () => post({ body })));
    assert.equal(answers.filter(({ status }) => status === 202).length, 1);
    assert.equal(answers.filter(({ status }) => status === 409).length, 99);
  });
});
