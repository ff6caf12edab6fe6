import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { parseCommand } from '../src/admin/commands.ts';
import { UsageError } from '../src/admin/usage.ts';
import { changeLine, createLine } from '../src/credit/store.ts';
import { lockLine } from '../src/ledger/lines.ts';
import { actor } from './actor.ts';
import type { Client } from './client.ts';
import { newTenant } from './fixtures.ts';
import { openServer } from './setup.ts';
import { newEnvironment, newKey, withKey } from './tenant.ts';

const { server } = await openServer();

interface Line {
  id: string;
  limit: number;
  allocated_limit: number;
  disabled_at: string | null;
}
/** A tenant of its own, so that no test meets the lines of another. */
async function newcomer() {
  const tenant = await newTenant(server.db);
  const { organization_id, environment_id, line_of_credit_id } = tenant;
  const client = withKey(server.client, tenant.api_key);
  const lines = `/organizations/${organization_id}/lines_of_credit`;
  const update = (body: object, line_id = line_of_credit_id, as: Client = client) =>
    as.request(
      'PATCH',
      `/organizations/${organization_id}/environments/${environment_id}/lines_of_credit/${line_id}/sandbox`,
      {
        body,
      },
    );
  return {
    ...tenant,
    client,
    lines,
    update,
    me: actor({ ...server, credentials: tenant, client }),
    async line(): Promise<Line> {
      const answer = await client.request('GET', `${lines}/${line_of_credit_id}/summary`);
      assert.equal(answer.status, 200, answer.text);
      return answer.body as Line;
    },
    async list(query = ''): Promise<string[]> {
      const answer = await client.request('GET', `${lines}/summaries${query}`);
      assert.equal(answer.status, 200, answer.text);
      return (answer.body as Line[]).map(({ id }) => id);
    },
    async refused(
      body: object,
      status: number,
      type: string,
      context?: object,
      line_id?: string,
    ): Promise<void> {
      const answer = await update(body, line_id);
      const { error } = answer.body as { error: { type: string; context?: object } };
      assert.deepEqual([answer.status, error.type, error.context], [status, type, context], answer.text);
    },
    async addLine(fields: object = {}): Promise<string> {
      const id = randomUUID();
      const line = {
        organization_id,
        id,
        environment_id,
        node_id: 'sandbox',
        network: 'mutinynet',
        currency: 'btc',
      };
      await server.db.transaction((sql) => createLine(sql, { ...line, limit: 5000n, ...fields }));
      return id;
    },
  };
}

test('a line reads as the contract has it', async () => {
  const { organization_id, environment_id, line_of_credit_id, me, line } = await newcomer();
  await me.newWallet(700);
  assert.deepEqual(Object.fromEntries(Object.entries(await line()).filter(([, value]) => value !== null)), {
    id: line_of_credit_id,
    organization_id,
    environment_id,
    network: 'mutinynet',
    limit: 1_000_000_000,
    allocated_limit: 700,
    currency: 'btc',
  });
});

test('summaries show the active lines of the own environment, newest first, by network and environment', async () => {
  const { list, addLine, organization_id, environment_id, line_of_credit_id, update, usd } = await newcomer();
  // Made in one transaction, so that their ids decide.
  const first = [line_of_credit_id, usd?.line_of_credit_id ?? ''].sort().reverse();
  const testnet = await addLine({ network: 'testnet' });
  await addLine({ environment_id: await newEnvironment(server.db, organization_id) });
  assert.deepEqual(await list(), [testnet, ...first]);
  assert.deepEqual(await list('?network=testnet3'), [testnet]);
  assert.deepEqual(await list('?network=mainnet'), []);
  assert.deepEqual(await list(`?environment_ids=${environment_id}`), [testnet, ...first]);
  const both = `environment_ids[]=${randomUUID()}&environment_ids[]=${environment_id.toUpperCase()}`;
  assert.deepEqual(await list(`?${both}`), [testnet, ...first]);
  assert.deepEqual(await list(`?environment_ids=${randomUUID()}`), []);
  assert.equal((await update({ disable: true }, testnet)).status, 202);
  assert.deepEqual(await list(), first);
  assert.deepEqual(await list('?include_disabled=true'), [testnet, ...first]);
});

test('a line on testnet reads back with the network of answers', async () => {
  const { lines, client, addLine } = await newcomer();
  const id = await addLine({ network: 'testnet' });
  const { body } = await client.request('GET', `${lines}/${id}/summary`);
  assert.equal((body as { network: string }).network, 'testnet');
});

test('bad filters are 400 invalid_parameter', async () => {
  const { client, lines } = await newcomer();
  for (const query of ['network=testnet', 'environment_ids=x', 'include_disabled=maybe']) {
    const answer = await client.request('GET', `${lines}/summaries?${query}`);
    const { error } = answer.body as { error: { type: string } };
    assert.deepEqual([answer.status, error.type], [400, 'invalid_parameter'], query);
  }
});

test('a limit is raised and lowered, down to what the wallets have', async () => {
  const { update, refused, line, me } = await newcomer();
  await me.newWallet(700);
  const answer = await update({ limit: 2_100_000_000_000_000_000n });
  assert.deepEqual([answer.status, answer.text], [202, '']);
  assert.equal(BigInt((await line()).limit), 2_100_000_000_000_000_000n);
  assert.equal((await update({ limit: 700 })).status, 202);
  assert.equal((await line()).limit, 700);
  await refused({ limit: 699 }, 400, 'invalid_line_of_credit_limit');
  await refused({ limit: 2_100_000_000_000_000_001n }, 400, 'invalid_line_of_credit_limit');
  await refused({ limit: 2n ** 64n - 1n }, 400, 'invalid_line_of_credit_limit');
  for (const limit of [0, -1, 1.5, '700']) assert.equal((await update({ limit })).status, 422, String(limit));
  assert.equal((await line()).limit, 700);
});

test('a disabled line refuses wallets and payments, what is in flight ends, and only the operator enables it', async () => {
  const { update, refused, line, me, organization_id, environment_id, line_of_credit_id, client } =
    await newcomer();
  await me.fund(100_000);
  const stuck = await me.outsideInvoice({ amount_msats: 10_000, behavior: 'stuck' });
  const send = me.sendBody({ payment_request: stuck.payment_request });
  await me.accept(send);
  const receive = await me.receive({ amount: { currency: 'btc', amount: 5000 } });
  assert.equal((await update({ disable: true })).status, 202);
  const { disabled_at } = await line();
  assert.match(disabled_at ?? '', /Z$/);
  const context = { line_of_credit_id };
  const wallet = {
    id: randomUUID(),
    environment_id,
    line_of_credit_id,
    name: 'new',
    network: 'mutinynet',
    limit: 0,
  };
  const created = await client.request('POST', `/organizations/${organization_id}/wallets`, { body: wallet });
  assert.deepEqual((created.body as { error: { type: string; context: object } }).error.context, context);
  assert.equal((await me.create(me.sendBody({ payment_request: stuck.payment_request }))).status, 400);
  await me.sandbox('payments', { payment_request: receive.data.payment_request });
  assert.equal((await me.ended(receive.id)).status, 'completed');
  await me.release(stuck.payment_hash, 'settle');
  assert.equal((await me.ended(send.id)).status, 'completed');
  await refused({ disable: false }, 403, 'not_allowed', context);
  await refused({ disable: false, limit: 5 }, 403, 'not_allowed', context);
  assert.equal((await update({ disable: true, limit: 900_000_000 })).status, 202, 'repeating it is harmless');
  assert.equal((await line()).disabled_at, disabled_at);
  await server.db.transaction(async (sql) => {
    const locked = await lockLine(sql, organization_id, line_of_credit_id);
    assert.ok(locked);
    await changeLine(sql, locked, { disabled: false });
  });
  assert.equal((await line()).disabled_at, null);
  await me.receive({ amount: { currency: 'btc', amount: 1000 } });
});

test('a request that changes nothing is no_updates_provided', async () => {
  const { refused, line_of_credit_id } = await newcomer();
  const context = { line_of_credit_id };
  await refused({}, 400, 'no_updates_provided', context);
  await refused({ limit: null, disable: null }, 400, 'no_updates_provided', context);
  await refused({ disable: false }, 400, 'no_updates_provided', context);
});

test('a mainnet line is not changed here', async () => {
  const { addLine, refused } = await newcomer();
  const id = await addLine({ network: 'mainnet' });
  await refused({ limit: 10_000 }, 403, 'not_allowed', { line_of_credit_id: id }, id);
});

test("another tenant's or environment's line answers exactly like an unknown one", async () => {
  const { addLine, client, lines, organization_id, update } = await newcomer();
  const elsewhere = await addLine({ environment_id: await newEnvironment(server.db, organization_id) });
  const unknown = randomUUID();
  const { line_of_credit_id } = await newTenant(server.db);
  const texts = new Set<string>();
  for (const id of [unknown, elsewhere, line_of_credit_id]) {
    for (const answer of [
      await client.request('GET', `${lines}/${id}/summary`),
      await update({ limit: 5 }, id),
    ]) {
      const { error } = answer.body as { error: { type: string; context: object } };
      assert.deepEqual(
        [answer.status, error.type, error.context],
        [404, 'line_of_credit_not_found_in_organization', { organization_id }],
      );
      texts.add(answer.text.replaceAll(id, unknown));
    }
  }
  assert.equal(texts.size, 1);
});

test('permissions: reading needs BILLING or READ, changing needs WRITE', async () => {
  const tenant = await newcomer();
  const { lines, line_of_credit_id, update, client } = tenant;
  const statuses = async (permission: string): Promise<number[]> => {
    const as = withKey(client, await newKey(server.db, tenant, [permission]));
    return [
      (await as.request('GET', `${lines}/summaries`)).status,
      (await as.request('GET', `${lines}/${line_of_credit_id}/summary`)).status,
      (await update({ limit: 5000 }, line_of_credit_id, as)).status,
    ];
  };
  assert.deepEqual(await statuses('BILLING'), [200, 200, 403]);
  assert.deepEqual(await statuses('READ'), [200, 200, 403]);
  assert.deepEqual(await statuses('RECEIVE'), [403, 403, 403]);
  assert.deepEqual(await statuses('WRITE'), [200, 200, 202]);
});

/** Runs a command of the operator on the test's database. */
const operator = (...argv: string[]) =>
  parseCommand(argv).run({
    db: server.db,
    base_url: server.base_url,
    nodes: [],
    compareNodes: () => Promise.resolve([]),
  });

describe("fees of a line, by the operator's commands", () => {
  const feesOf = async (id: string) => {
    const [row] = await server.db.query(
      'SELECT line_send_bps, line_receive_bps FROM accounts WHERE id = $1',
      [id],
    );
    return row;
  };
  test('reach its wallets at once, and those that are made later', async () => {
    const { line_of_credit_id, wallet_id, me } = await newcomer();
    assert.deepEqual(await feesOf(wallet_id), { line_send_bps: 0, line_receive_bps: 0 });
    await operator('lines', 'update', line_of_credit_id, '--send-bps', '150', '--spread-bps', '20');
    assert.deepEqual(await feesOf(wallet_id), { line_send_bps: 150, line_receive_bps: 0 });
    await operator('lines', 'update', line_of_credit_id, '--receive-bps', '10000');
    const later = await me.newWallet();
    for (const id of [wallet_id, later])
      assert.deepEqual(await feesOf(id), { line_send_bps: 150, line_receive_bps: 10_000 });
    await operator('lines', 'update', line_of_credit_id, '--disable');
    assert.deepEqual(await feesOf(later), { line_send_bps: 150, line_receive_bps: 10_000 });
    const [line] = await server.db.query(
      'SELECT send_bps, receive_bps, spread_bps FROM lines_of_credit WHERE id = $1',
      [line_of_credit_id],
    );
    assert.deepEqual(line, { send_bps: 150, receive_bps: 10_000, spread_bps: 20 });
    const trail = await server.db.query<{ detail: Record<string, unknown> }>(
      `SELECT detail FROM audit_log WHERE action = 'lines update' AND detail->>'line_id' = $1 ORDER BY id`,
      [line_of_credit_id],
    );
    const changes = trail.map(({ detail: { line_id: _line, ...change } }) => change);
    assert.deepEqual(changes, [
      { send_bps: 150, spread_bps: 20 },
      { receive_bps: 10_000 },
      { disabled: true },
    ]);
  });
  test('are given at its creation, in dollars too', async () => {
    const tenant = await newcomer();
    const scope = `--organization ${tenant.organization_id} --environment ${tenant.environment_id}`;
    const terms = '--network mutinynet --currency usd --limit 5000 --receive-bps 25';
    const { value } = await operator(...`lines create ${scope} ${terms}`.split(' '));
    const { id } = value as { id: string };
    const usd = { ...server, client: tenant.client, credentials: { ...tenant, line_of_credit_id: id } };
    const wallet = await actor(usd).newWallet(700);
    assert.deepEqual(await feesOf(wallet), { line_send_bps: 0, line_receive_bps: 25 });
    const { body } = await tenant.client.request('GET', `${tenant.lines}/${id}/summary`);
    const { currency, allocated_limit } = body as { currency: string; allocated_limit: number };
    assert.deepEqual([currency, allocated_limit], ['usd', 700]);
  });
  test('out of range, or nothing at all, is a usage error that changes nothing', async () => {
    const { line_of_credit_id, wallet_id } = await newcomer();
    for (const flags of [
      ['--send-bps', '10001'],
      ['--receive-bps', '-1'],
      ['--receive-bps', '1.5'],
      ['--spread-bps', '5001'],
      [],
    ]) {
      await assert.rejects(
        async () => operator('lines', 'update', line_of_credit_id, ...flags),
        UsageError,
        flags.join(' '),
      );
    }
    assert.deepEqual(await feesOf(wallet_id), { line_send_bps: 0, line_receive_bps: 0 });
  });
});
