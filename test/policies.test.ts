import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { stringifyJson } from '../src/core/json.ts';
import { createClient } from './client.ts';
import { newTenant, type TestServer } from './fixtures.ts';
import { openServer } from './setup.ts';
import { newEnvironment, newKey, setPolicies, withKey } from './tenant.ts';

const { server, me } = await openServer();

interface Shown {
  id: string;
  organization_id: string;
  updated_at: string;
  policies: { type: string; data: Record<string, unknown> }[];
}

const pathOf = (wallet_id: string): string =>
  `/organizations/${server.credentials.organization_id}/wallets/${wallet_id}/policies`;
const patch = (wallet_id: string, body: object) =>
  server.client.request('PATCH', pathOf(wallet_id), { body });
async function read(wallet_id: string): Promise<Shown> {
  const answer = await server.client.request('GET', pathOf(wallet_id));
  assert.equal(answer.status, 200, answer.text);
  return answer.body as Shown;
}
const typesOf = ({ policies }: Shown): string[] => policies.map(({ type }) => type).sort();
async function refused(wallet_id: string, body: unknown, status: number, type: string): Promise<unknown> {
  const answer = await server.client.request('PATCH', pathOf(wallet_id), { body });
  const { error } = answer.body as { error: { type: string; context?: unknown } };
  assert.deepEqual([answer.status, error.type], [status, type], `${stringifyJson(body)}: ${answer.text}`);
  return error.context;
}

const ALL = {
  max_payment_size_sats: 5000,
  transactions_per_minute: 3,
  send_volume_limit_sats: 70_000,
  processing_fee: { send_basis_points: 150, receive_basis_points: 0 },
};

test('every wallet has its policies from creation on: none', async () => {
  const id = await me.newWallet();
  const shown = await read(id);
  const { organization_id } = server.credentials;
  assert.deepEqual([shown.id, shown.organization_id, shown.policies], [id, organization_id, []]);
  assert.match(shown.updated_at, /Z$/);
});

test('policies are set, shown as the contract has them, and each keeps its id when it changes', async () => {
  const id = await me.newWallet();
  await setPolicies(server, id, ALL);
  const first = await read(id);
  const data = (shown: Shown, type: string) => {
    const found = shown.policies.find((policy) => policy.type === type)?.data;
    assert.ok(found, type);
    return found;
  };
  assert.equal(data(first, 'max_payment_size')['max_size_sats'], 5000);
  assert.equal(data(first, 'transaction_velocity')['transactions_per_minute'], 3);
  assert.equal(data(first, 'send_volume_limit')['limit_sats'], 70_000);
  assert.deepEqual(data(first, 'processing_fee')['rates'], ALL.processing_fee);
  await setPolicies(server, id, { max_payment_size_sats: 6000 });
  const second = await read(id);
  const [old, changed] = [data(first, 'max_payment_size'), data(second, 'max_payment_size')];
  assert.deepEqual([changed['id'], changed['created_at']], [old['id'], old['created_at']]);
  assert.equal(changed['max_size_sats'], 6000);
  assert.ok(String(changed['updated_at']) > String(old['updated_at']));
  assert.ok(second.updated_at > first.updated_at);
  assert.deepEqual(data(second, 'processing_fee'), data(first, 'processing_fee'), 'what is omitted stays');
});

test('null removes a policy, omitting keeps it, and a new one of the type has a new id', async () => {
  const id = await me.newWallet();
  await setPolicies(server, id, ALL);
  const [before_it] = (await read(id)).policies.filter(({ type }) => type === 'send_volume_limit');
  await setPolicies(server, id, { send_volume_limit_sats: null, processing_fee: null });
  const left = await read(id);
  assert.deepEqual(typesOf(left), ['max_payment_size', 'transaction_velocity']);
  await setPolicies(server, id, { send_volume_limit_sats: 1 });
  const [again] = (await read(id)).policies.filter(({ type }) => type === 'send_volume_limit');
  assert.notEqual(again?.data['id'], before_it?.data['id']);
  await setPolicies(server, id, {
    max_payment_size_sats: null,
    transactions_per_minute: null,
    send_volume_limit_sats: null,
    template_id: null,
    ofac_compliant: null,
    processing_fee: null,
  });
  const emptied = await read(id);
  assert.deepEqual(emptied.policies, []);
  assert.ok(emptied.updated_at > left.updated_at);
});

test('bounds up to 2^64-1 survive exactly, and never refuse anything', async () => {
  const id = await me.newWallet(1_000_000);
  const most = 2n ** 64n - 1n;
  await setPolicies(server, id, {
    max_payment_size_sats: most,
    transactions_per_minute: most,
    send_volume_limit_sats: most,
  });
  for (const { data } of (await read(id)).policies) {
    const bound = data['max_size_sats'] ?? data['transactions_per_minute'] ?? data['limit_sats'];
    assert.equal(bound, most);
  }
  const { payment_request } = await me.outsideInvoice({ amount_msats: 900_000 });
  assert.equal((await me.send({ payment_request }, { wallet_id: id })).status, 'completed');
});

test('the processing fee is tri-state: set, kept where omitted, inherited again with null', async () => {
  const id = await me.newWallet();
  const own = async () => {
    const [row] = await server.db.query('SELECT own_send_bps, own_receive_bps FROM accounts WHERE id = $1', [
      id,
    ]);
    return row;
  };
  assert.deepEqual(await own(), { own_send_bps: null, own_receive_bps: null });
  await setPolicies(server, id, { processing_fee: { send_basis_points: 0, receive_basis_points: 10_000 } });
  assert.deepEqual(await own(), { own_send_bps: 0, own_receive_bps: 10_000 });
  await setPolicies(server, id, { transactions_per_minute: 9 });
  assert.deepEqual(await own(), { own_send_bps: 0, own_receive_bps: 10_000 });
  await setPolicies(server, id, { processing_fee: null });
  assert.deepEqual(await own(), { own_send_bps: null, own_receive_bps: null });
});

describe('bad input', () => {
  test('nothing given is no_updates_provided, with the wallet', async () => {
    const id = await me.newWallet();
    assert.deepEqual(await refused(id, {}, 400, 'no_updates_provided'), { wallet_id: id });
  });
  test('fields that the contract does not have, and values of the wrong kind, are invalid_data', async () => {
    const id = await me.newWallet();
    for (const body of [
      { reflex_approval: true },
      { max_payment_size_sats: 5, more: 1 },
      { max_payment_size_sats: 0 },
      { max_payment_size_sats: -1 },
      { transactions_per_minute: 1.5 },
      { transactions_per_minute: '5' },
      { send_volume_limit_sats: 2n ** 64n },
      { template_id: 'x' },
      { ofac_compliant: 'yes' },
      { processing_fee: {} },
      { processing_fee: { send_basis_points: 5 } },
      { processing_fee: { send_basis_points: 5, receive_basis_points: null } },
      { processing_fee: { send_basis_points: 10_001, receive_basis_points: 0 } },
      { processing_fee: { send_basis_points: 0, receive_basis_points: -1 } },
      [],
      null,
    ]) {
      await refused(id, body, 422, 'invalid_data');
    }
    assert.deepEqual((await read(id)).policies, []);
  });
  test('an unknown template, and sanctions without a list of them, are invalid_parameter; nothing changes', async () => {
    const id = await me.newWallet();
    await refused(id, { template_id: randomUUID(), max_payment_size_sats: 5 }, 400, 'invalid_parameter');
    await refused(id, { ofac_compliant: true, max_payment_size_sats: 5 }, 400, 'invalid_parameter');
    assert.deepEqual((await read(id)).policies, []);
    await setPolicies(server, id, { ofac_compliant: false });
    assert.deepEqual((await read(id)).policies, []);
  });
});

test('a wallet of another tenant or environment answers exactly like an unknown one, a deleted one takes no changes', async () => {
  const { organization_id } = server.credentials;
  const elsewhere = await newEnvironment(server.db, organization_id);
  const other_key = await newKey(server.db, { organization_id, environment_id: elsewhere }, ['WRITE']);
  const other_tenant = await newTenant(server.db);
  const unknown = randomUUID();
  const texts = new Set<string>();
  const ask = async (client: TestServer['client'], id: string) => {
    for (const answer of [
      await client.request('GET', pathOf(id)),
      await client.request('PATCH', pathOf(id), { body: ALL }),
      await client.request('PATCH', pathOf(id), { body: {} }),
    ]) {
      const { error } = answer.body as { error: { type: string; context: object } };
      assert.deepEqual(
        [answer.status, error.type, error.context],
        [404, 'wallet_policies_not_found', { wallet_id: id }],
      );
      texts.add(answer.text.replaceAll(id, unknown));
    }
  };
  await ask(server.client, unknown);
  await ask(server.client, other_tenant.wallet_id);
  await ask(createClient(server.base_url, other_key), server.credentials.wallet_id);
  assert.equal(texts.size, 1);
  const gone = await me.newWallet();
  await setPolicies(server, gone, { transactions_per_minute: 5 });
  assert.equal(
    (await server.client.request('DELETE', `/organizations/${organization_id}/wallets/${gone}`)).status,
    202,
  );
  assert.deepEqual(typesOf(await read(gone)), ['transaction_velocity']);
  assert.equal((await patch(gone, ALL)).status, 404);
});

test('permissions: reading needs READ, changing needs WRITE', async () => {
  const id = await me.newWallet();
  const statuses = async (permission: string): Promise<number[]> => {
    const as = withKey(server.client, await newKey(server.db, server.credentials, [permission]));
    const changed = await as.request('PATCH', pathOf(id), { body: { transactions_per_minute: 7 } });
    return [(await as.request('GET', pathOf(id))).status, changed.status];
  };
  assert.deepEqual(await statuses('READ'), [200, 403]);
  assert.deepEqual(await statuses('RECEIVE'), [403, 403]);
  assert.deepEqual(await statuses('BILLING'), [403, 403]);
  assert.deepEqual(await statuses('WRITE'), [200, 202]);
});
