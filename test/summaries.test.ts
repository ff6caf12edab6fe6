import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { changeLine, createLine } from '../src/credit/store.ts';
import { lockLine } from '../src/ledger/lines.ts';
import { foldCounts } from '../src/payments/fold.ts';
import { createClient } from './client.ts';
import { openServer } from './setup.ts';
import { bucketsOf, countOf, everyKind, newcomer } from './summaries.ts';
import { newKey } from './tenant.ts';

const { server } = await openServer();

const FILTERS = [
  '',
  'statuses[]=completed',
  'statuses=failed&statuses=expired',
  'statuses[]=receiving&direction=receive',
  'statuses[]=approved',
  'statuses[]=sending',
  'kind=onchain',
  'kind=taprootasset',
  'direction=send',
  'metadata[shop]=a',
  'metadata[shop]=a&metadata[order]=2&statuses[]=receiving',
  'metadata[shop]=b',
  'start_date=2020-01-01T00:00:00Z',
  'start_date=2020-01-01T00:00:00Z&end_date=2020-01-02T00:00:00Z',
  'end_date=2199-01-01T00:00:00Z&kind=bolt11',
];

test('both summaries count what the list shows, whatever the filters, folded or not', async () => {
  const tenant = await newcomer(server);
  const { organization_id, environment_id, line_of_credit_id, wallet_id } = tenant;
  const other = await everyKind(tenant);
  const times = (await tenant.listed()).map(({ created_at }) => created_at).sort();
  const exact = `start_date=${times[2]}&end_date=${times[5]}`;
  for (const folded of [false, true]) {
    if (folded) await foldCounts(server.db, 5000);
    for (const filter of [...FILTERS, exact, `${exact}&direction=receive`]) {
      const items = await tenant.listed(filter);
      const all = countOf(items);
      const some = items.length > 0;
      const line = { organization_id, environment_id, ...all, buckets: bucketsOf(items) };
      for (const scope of ['', `&line_of_credit_id=${line_of_credit_id}`]) {
        assert.deepEqual(
          await tenant.summary(filter + scope),
          {
            organization_id,
            environment_id,
            ...all,
            by_organization_id: some ? { [organization_id]: all } : {},
            by_environment_id: some ? { [environment_id]: { organization_id, ...all } } : {},
            by_line_of_credit_id: some ? { [line_of_credit_id]: line } : {},
          },
          `${filter}, folded: ${folded}`,
        );
      }
      for (const id of [wallet_id, other]) {
        const own = items.filter((item) => item.wallet_id === id);
        const found = own.length > 0 ? line_of_credit_id : null;
        const shown = { organization_id, environment_id, wallet_id: id, line_of_credit_id: found };
        assert.deepEqual(
          await tenant.ofWallet(id, filter),
          { ...shown, ...countOf(own), buckets: bucketsOf(own) },
          `${filter} of a wallet, folded: ${folded}`,
        );
      }
    }
  }
  assert.equal((await tenant.summary()).total_count, 10);
});

describe('what is not there is counted as nothing', () => {
  const zero = { total_count: 0, oldest_created_at: null, newest_created_at: null };
  test('an environment without payments, a line and wallets that it does not have', async () => {
    const [tenant, stranger] = [await newcomer(server), await newcomer(server)];
    const { organization_id, environment_id } = tenant;
    const none = {
      organization_id,
      environment_id,
      ...zero,
      by_organization_id: {},
      by_environment_id: {},
      by_line_of_credit_id: {},
    };
    assert.deepEqual(await tenant.summary(), none);
    await stranger.me.fund(1000);
    await tenant.me.fund(1000);
    assert.deepEqual(await tenant.summary(`line_of_credit_id=${stranger.line_of_credit_id}`), none);
    for (const wallet_id of [stranger.wallet_id, randomUUID()]) {
      assert.deepEqual(await tenant.ofWallet(wallet_id), {
        organization_id,
        environment_id,
        wallet_id,
        line_of_credit_id: null,
        ...zero,
        buckets: [],
      });
    }
  });
});

test('an expired receive that is paid late is completed in the very next summary', async () => {
  const tenant = await newcomer(server);
  const { me } = tenant;
  const short = { payment_kind: 'onchain', amount: { currency: 'btc', amount: 1_000_000 }, expiration: 1 };
  const receives = [];
  for (let index = 0; index < 3; index += 1) receives.push(await me.receive(short));
  for (const { id } of receives) await me.ended(id);
  // The first, then the last: neither the oldest nor the newest expired one may be remembered.
  for (const late of [receives[0], receives[2], receives[1]]) {
    await foldCounts(server.db, 5000);
    await me.sandbox('payments', { address: late?.data.address, amount_msats: 1_000_000 });
    await me.sandbox('blocks', { count: 1 });
    await me.until(late?.id ?? '', ({ status }) => status === 'completed');
    const buckets = bucketsOf(await tenant.listed());
    assert.deepEqual((await tenant.ofWallet()).buckets, buckets);
    assert.deepEqual(
      (await tenant.summary()).by_line_of_credit_id[tenant.line_of_credit_id]?.buckets,
      buckets,
    );
    const recent: string = `start_date=${receives[0]?.created_at}`;
    assert.deepEqual((await tenant.ofWallet(tenant.wallet_id, recent)).buckets, buckets);
  }
});

test('a deleted wallet is counted only where inactive ones are asked for, late money included', async () => {
  const tenant = await newcomer(server);
  const { me, line_of_credit_id } = tenant;
  const gone = await me.newWallet();
  const short = { payment_kind: 'onchain', amount: { currency: 'btc', amount: 1_000_000 }, expiration: 1 };
  const late = await me.receive({ ...short, wallet_id: gone });
  const mine = await me.receive(short);
  for (const { id } of [late, mine]) await me.ended(id);
  const newest = await me.receive({ ...short, wallet_id: gone });
  await me.ended(newest.id);
  const compare = async () => {
    const items = await tenant.listed();
    const live = items.filter(({ wallet_id }) => wallet_id !== gone);
    const shown = async (query: string) =>
      (await tenant.summary(query)).by_line_of_credit_id[line_of_credit_id]?.buckets;
    assert.deepEqual(await shown(''), bucketsOf(live));
    assert.deepEqual(await shown(`start_date=${late.created_at}`), bucketsOf(live));
    assert.deepEqual(await shown('metadata[none]=x'), undefined);
    assert.deepEqual(await shown('include_inactive=true'), bucketsOf(items));
    assert.equal((await tenant.ofWallet(gone)).total_count, 0);
    const own = bucketsOf(items.filter(({ wallet_id }) => wallet_id === gone));
    assert.deepEqual((await tenant.ofWallet(gone, 'include_inactive=true')).buckets, own);
  };
  await foldCounts(server.db, 5000);
  await tenant.remove(gone);
  await compare();
  await me.sandbox('payments', { address: late.data.address, amount_msats: 1_000_000 });
  await me.sandbox('blocks', { count: 1 });
  await me.until(late.id, ({ status }) => status === 'completed');
  await compare();
  await foldCounts(server.db, 5000);
  await compare();
});

test('a disabled line is counted only where inactive ones are asked for, until it is enabled again', async () => {
  const tenant = await newcomer(server);
  const { organization_id, environment_id, line_of_credit_id, wallet_id } = tenant;
  await tenant.me.fund(1000);
  const disable = (disabled: boolean) =>
    server.db.transaction(async (sql) => {
      const line = await lockLine(sql, organization_id, line_of_credit_id);
      assert.ok(line);
      await changeLine(sql, line, { disabled });
    });
  const id = randomUUID();
  await createLine(server.db, {
    organization_id,
    environment_id,
    id,
    node_id: 'sandbox',
    network: 'mutinynet',
    currency: 'btc',
    limit: 1000n,
  });
  await disable(true);
  assert.equal((await tenant.summary()).total_count, 0);
  assert.equal((await tenant.ofWallet()).total_count, 0);
  assert.equal((await tenant.summary('include_inactive=true')).total_count, 1);
  assert.equal((await tenant.ofWallet(wallet_id, 'include_inactive=true')).total_count, 1);
  await disable(false);
  assert.equal((await tenant.summary()).total_count, 1);
  assert.deepEqual(Object.keys((await tenant.summary()).by_line_of_credit_id), [line_of_credit_id]);
});

test('summaries need READ, and refuse what they cannot read', async () => {
  const tenant = await newcomer(server);
  const { organization_id, wallet_id, me } = tenant;
  const paths = [
    `${me.base}/payments/summary`,
    `/organizations/${organization_id}/wallets/${wallet_id}/payments/summary`,
  ];
  const [receiver, reader, billing] = await Promise.all(
    ['RECEIVE', 'READ', 'BILLING'].map(async (permission) =>
      createClient(server.base_url, await newKey(server.db, tenant, [permission])),
    ),
  );
  for (const path of paths) {
    assert.equal((await reader?.request('GET', path))?.status, 200);
    for (const client of [receiver, billing]) assert.equal((await client?.request('GET', path))?.status, 403);
    assert.equal((await server.client.request('GET', path)).status, 403);
    for (const query of [
      'start_date=yesterday',
      'statuses[]=paid',
      'kind=card',
      'direction=up',
      'metadata=x',
      'include_inactive=2',
    ]) {
      const answer = await tenant.client.request('GET', `${path}?${query}`);
      assert.equal(answer.status, 400, query);
      const { error } = answer.body as { error: { type: string; detail: string } };
      assert.equal(error.type, 'invalid_parameter');
      assert.match(error.detail, new RegExp(query.split(/[[=]/)[0] ?? ''));
    }
  }
});
