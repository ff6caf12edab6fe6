import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { createKey } from '../src/admin/keys.ts';
import { setFeatures } from '../src/admin/operator.ts';
import { actor } from './actor.ts';
import { createClient } from './client.ts';
import { dollars, type Quoted } from './dollars.ts';
import { newTenant, spawnServer } from './fixtures.ts';
import { openServer } from './setup.ts';

const clock = { skew_ms: 0, now: () => Date.now() + clock.skew_ms };
const { server, me } = await openServer({}, clock);
const my = dollars(server, me);
await my.setRate('6500000e0');

const errorOf = (body: unknown) => (body as { error: { type: string; context?: unknown } }).error;
async function refused(amount: { currency: string; amount: number }, to: string, fields: object = {}) {
  const { answer, id } = await my.askQuote(amount, to, fields);
  assert.equal(answer.status, 400, answer.text);
  const gone = await server.client.request('GET', `${me.base}/quotes/${id}`);
  assert.equal(gone.status, 404, 'nothing is left of it');
  const { type, context } = errorOf(answer.body);
  return [type, context];
}
const fields = (...names: string[]) => ['invalid_quote_request', { fields: names }];

test('a quote can be read at once, with its rate, and holds for five minutes', async () => {
  const id = await my.quote(my.usd(1000), 'btc');
  const quote = await my.readQuote(id);
  assert.equal(quote.quote?.type, 'market_rate');
  assert.deepEqual(
    { from: quote.quote.detail.from, to: quote.quote.detail.to, rate: quote.quote.detail.rate },
    { from: 'usd', to: 'btc', rate: '6500000e0' },
  );
  assert.equal(Date.parse(quote.expires_at ?? '') - Date.parse(quote.created_at ?? ''), 300_000);
  assert.deepEqual(
    [quote.consumed_at, quote.failed_at, quote.error, quote.wallet_id],
    [null, null, null, null],
  );
});

test('the rate that was locked stays, whatever the market does', async () => {
  const id = await my.quote(my.usd(1000), 'btc');
  await my.setRate('9900000e0');
  assert.equal((await my.readQuote(id)).quote?.detail.rate, '6500000e0');
  await my.setRate('6500000e0');
});

test('what cannot be quoted is refused, naming the field', async () => {
  assert.deepEqual(await refused(my.usd(0), 'btc'), fields('amount'));
  assert.deepEqual(await refused(my.usd(-5), 'btc'), fields('amount'));
  assert.deepEqual(await refused({ ...my.usd(5), negative: true } as never, 'btc'), fields('amount'));
  assert.deepEqual(
    await refused({ currency: 'btc', amount: 2_100_000_000_000_000_001n } as never, 'usd'),
    fields('amount'),
  );
  assert.deepEqual(await refused(my.usd(1000), 'usd'), fields('to'));
  assert.deepEqual(
    await refused(my.usd(1000), 'btc', { line_of_credit_id: randomUUID() }),
    fields('line_of_credit_id'),
  );
  assert.deepEqual(await refused(my.usd(1000), 'btc', { network: 'mainnet' }), fields('network'));
  assert.deepEqual(
    await refused(my.usd(0), 'usd', { network: 'mainnet' }),
    fields('amount', 'to', 'network'),
  );
  const stranger = await newTenant(server.db);
  assert.deepEqual(
    await refused(my.usd(1000), 'btc', { line_of_credit_id: stranger.usd?.line_of_credit_id }),
    fields('line_of_credit_id'),
    'a foreign line is as unknown as one that does not exist',
  );
  const asset = `asset:${'ab'.repeat(33)}`;
  assert.deepEqual(await refused({ currency: asset, amount: 5 }, 'btc'), [
    'mismatch_currency',
    { line_of_credit_currency: 'usd', source_currency: asset, target_currency: 'btc' },
  ]);
  assert.deepEqual(await refused(my.usd(1000), asset), fields('to'));
  const target_precision = { currency: 'usd', precision: 'cents' };
  assert.deepEqual(await refused(my.usd(1000), 'btc', { target_precision }), [
    'mismatch_target_precision',
    { target_precision, target_currency: 'btc' },
  ]);
});

test('an amount that comes to nothing on the other side is refused before anything is stored', async () => {
  // 1 sat is 0.065 cents.
  assert.deepEqual(await refused(my.btc(1000), 'usd'), fields('amount'));
  await my.quote(my.btc(16_000), 'usd');
  await my.setRate('2000000000000e0');
  // A cent is 0.05 msats, or 0.00005 sats.
  assert.deepEqual(await refused(my.usd(1), 'btc'), fields('amount'));
  const target_precision = { currency: 'btc', precision: 'msats' };
  await my.quote(my.usd(20), 'btc', { target_precision });
  assert.deepEqual(await refused(my.usd(20), 'btc'), fields('amount'));
  await my.setRate('6500000e0');
});

test('shapes that the schema forbids are 422', async () => {
  const body = { id: randomUUID(), line_of_credit_id: my.line_of_credit_id, network: 'mutinynet', to: 'btc' };
  for (const amount of [
    undefined,
    { currency: 'usd' },
    { currency: 'eur', amount: 5 },
    { currency: 'usd', amount: 1.5 },
  ]) {
    const answer = await server.client.request('POST', `${me.base}/quotes`, { body: { ...body, amount } });
    assert.deepEqual([answer.status, errorOf(answer.body).type], [422, 'invalid_data']);
  }
});

test('an id is used once: a second request is 409, and changes nothing', async () => {
  const id = await my.quote(my.usd(1000), 'btc');
  const again = await my.askQuote(my.usd(5000), 'btc', { id });
  assert.deepEqual(
    [again.answer.status, errorOf(again.answer.body)],
    [409, { type: 'quote_already_exists', detail: `quote ${id} exists`, context: { quote_id: id } }],
  );
  assert.equal((await my.readQuote(id)).quote?.detail.rate, '6500000e0');
  const twins = randomUUID();
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => my.askQuote(my.usd(7), 'btc', { id: twins })),
  );
  const statuses = answers.map(({ answer }) => answer.status).sort((a, b) => a - b);
  assert.deepEqual(statuses, [202, ...Array.from({ length: 19 }, () => 409)]);
});

test('another tenant neither sees a quote nor is in the way of its id', async () => {
  const stranger = await newTenant(server.db);
  const client = createClient(server.base_url, stranger.api_key);
  const theirs = `/organizations/${stranger.organization_id}/environments/${stranger.environment_id}/quotes`;
  const id = await my.quote(my.usd(1000), 'btc');
  const missing = await client.request('GET', `${theirs}/${id}`);
  assert.deepEqual([missing.status, errorOf(missing.body).type], [404, 'quote_not_found']);
  const body = {
    id,
    line_of_credit_id: stranger.usd?.line_of_credit_id,
    network: 'mutinynet',
    amount: my.usd(5),
    to: 'btc',
  };
  assert.equal((await client.request('POST', theirs, { body })).status, 202);
});

test('a key that may only receive makes quotes and reads one, but lists none', async () => {
  const { organization_id, environment_id } = server.credentials;
  const as = async (permissions: string[]) => {
    const key = {
      organization_id,
      environment_id,
      name: 'k',
      permissions,
      expires_at: null,
      valid_ips: null,
    };
    const made = await server.db.transaction((sql) => createKey(sql, key));
    return createClient(server.base_url, made.api_key);
  };
  const body = () => ({
    id: randomUUID(),
    line_of_credit_id: my.line_of_credit_id,
    network: 'mutinynet',
    amount: my.usd(5),
    to: 'btc',
  });
  const id = await my.quote(my.usd(5), 'btc');
  const tries = async (permission: string) => {
    const client = await as([permission]);
    return [
      (await client.request('POST', `${me.base}/quotes`, { body: body() })).status,
      (await client.request('GET', `${me.base}/quotes/${id}`)).status,
      (await client.request('GET', `${me.base}/quotes`)).status,
    ];
  };
  assert.deepEqual(await tries('RECEIVE'), [202, 200, 403]);
  assert.deepEqual(await tries('READ'), [403, 200, 200]);
  assert.deepEqual(await tries('WRITE'), [202, 200, 200]);
  assert.deepEqual(await tries('BILLING'), [403, 403, 403]);
});

test('the list is newest first, by pages with an exact total, and by wallet and network', async () => {
  const list = async (query: string) => {
    const answer = await server.client.request('GET', `${me.base}/quotes?${query}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.body as { items: Quoted[]; total: number; offset: number; limit: number };
  };
  const ids: string[] = [];
  for (let n = 0; n < 5; n += 1) ids.unshift(await my.quote(my.usd(100 + n), 'btc'));
  const first = await list('limit=3');
  assert.deepEqual(
    first.items.map(({ id }) => id),
    ids.slice(0, 3),
  );
  const second = await list('limit=2&offset=3');
  assert.deepEqual(
    second.items.map(({ id }) => id),
    ids.slice(3, 5),
  );
  assert.equal(first.total, second.total);
  assert.equal((await list('limit=0')).items.length, 0);
  assert.equal((await list('limit=5000')).limit, 1000);
  assert.equal((await list('network=mainnet')).total, 0);
  assert.equal((await list('network=mutinynet')).total, first.total);
  const payment = await my.receive(333);
  const mine = await list(`wallet_id=${my.wallet_id}`);
  assert.ok(mine.items.every(({ wallet_id }) => wallet_id === my.wallet_id));
  assert.equal(mine.items[0]?.consumed_at !== null, payment.status === 'receiving');
  assert.equal((await list(`wallet_id=${randomUUID()}`)).total, 0);
  const bad = await server.client.request('GET', `${me.base}/quotes?wallet_id=x`);
  assert.deepEqual([bad.status, errorOf(bad.body).type], [400, 'invalid_parameter']);
});

test('without the feature, quotes are refused and payments from dollars, too', async () => {
  const { organization_id } = server.credentials;
  const quote_id = await my.quote(my.usd(5), 'btc');
  await setFeatures(server.db, organization_id, { usd: false });
  try {
    const give_up_at = Date.now() + 10_000;
    for (;;) {
      const { answer } = await my.askQuote(my.usd(5), 'btc');
      if (answer.status === 400) {
        assert.equal(errorOf(answer.body).type, 'invalid_quote_request');
        break;
      }
      assert.ok(Date.now() < give_up_at, 'the server hears of it');
    }
    const body = {
      id: randomUUID(),
      wallet_id: my.wallet_id,
      quote_id,
      payment_kind: 'bolt11',
      amount: my.usd(5),
    };
    const answer = await me.create(body);
    assert.deepEqual([answer.status, errorOf(answer.body).type], [400, 'feature_flag_disabled']);
  } finally {
    await setFeatures(server.db, organization_id, { usd: true });
  }
});

test('the sandbox walks until its rate is set, for its own environment only', async () => {
  const stranger = await newTenant(server.db);
  const client = createClient(server.base_url, stranger.api_key);
  const path = `/organizations/${stranger.organization_id}/environments/${stranger.environment_id}/sandbox/rate`;
  const read = async () => (await client.request('GET', path)).body as { rate: string; held: boolean };
  assert.equal((await read()).held, false);
  assert.notEqual((await read()).rate, '1234567e2');
  const set = await client.request('PUT', path, { body: { rate: '1234567e2' } });
  assert.deepEqual([set.status, set.body], [200, { rate: '1234567e2', held: true }]);
  assert.deepEqual(await read(), { rate: '1234567e2', held: true });
  const again = await client.request('PUT', path, { body: { rate: null } });
  assert.equal((again.body as { held: boolean }).held, false);
  for (const rate of ['65000', '0e0', '-1e0', '1.5e0', '', 'x', `1${'0'.repeat(20)}e0`]) {
    const answer = await client.request('PUT', path, { body: { rate } });
    assert.deepEqual([answer.status, errorOf(answer.body).type], [422, 'invalid_data'], rate);
  }
  assert.equal((await my.readQuote(await my.quote(my.usd(5), 'btc'))).quote?.detail.rate, '6500000e0');
});

test('another server of the deployment quotes the rate that was set, and takes the quote', async () => {
  const second = await spawnServer(server.database_url);
  try {
    await my.setRate('7000000e0');
    const client = createClient(second.base_url, server.credentials.api_key);
    const other = { ...server, client, base_url: second.base_url };
    const theirs = dollars(other, actor(other));
    const id = await theirs.quote(my.usd(70), 'btc');
    assert.equal((await my.readQuote(id)).quote?.detail.rate, '7000000e0');
    const payment = await me.receive({ wallet_id: my.wallet_id, quote_id: id, amount: my.usd(70) });
    assert.equal(payment.data.amount_msats, 1_000_000);
  } finally {
    await second.kill('SIGTERM');
    await my.setRate('6500000e0');
  }
});
