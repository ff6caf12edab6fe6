import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { openServer } from './setup.ts';
import { GIVE_UP_MS } from './wait.ts';

const { server, me } = await openServer();

const receiveBody = (fields: object = {}) => ({
  id: randomUUID(),
  wallet_id: server.credentials.wallet_id,
  payment_kind: 'bolt11',
  amount: { currency: 'btc', amount: 1000 },
  ...fields,
});

describe('lists', () => {
  test('cursor pages bring every payment once, and a cursor is bound to its query', async () => {
    const ids = new Set<string>();
    for (let index = 0; index < 7; index += 1)
      ids.add(await me.accept(receiveBody({ metadata: { batch: 'cursor' } })));
    for (const sort_key of ['created_at', 'updated_at']) {
      const query = `pagination=cursor&limit=3&sort_key=${sort_key}&metadata[batch]=cursor`;
      const seen: string[] = [];
      let cursor = '';
      for (;;) {
        const answer = await server.client.request('GET', `${me.base}/payments?${query}${cursor}`);
        const page = answer.body as {
          items: { id: string }[];
          has_more: boolean;
          next_cursor: string | null;
          total?: number;
        };
        assert.equal(page.total, undefined);
        seen.push(...page.items.map(({ id }) => id));
        if (!page.has_more) break;
        cursor = `&cursor=${page.next_cursor}`;
      }
      assert.deepEqual([...seen].sort(), [...ids].sort());
      const other = await server.client.request(
        'GET',
        `${me.base}/payments?pagination=cursor&limit=3${cursor}`,
      );
      assert.equal(other.status, 400, other.text);
      assert.equal((other.body as { error: { type: string } }).error.type, 'invalid_cursor');
    }
  });
  test('offset pages have an exact total; limits above 1000 are shown as 1000; 0 gives none', async () => {
    const get = async (query: string) =>
      (await server.client.request('GET', `${me.base}/payments?${query}`)).body as {
        items: unknown[];
        total: number;
        limit: number;
        offset: number;
      };
    const all = await get('limit=5000');
    assert.equal(all.limit, 1000);
    assert.equal(all.items.length, all.total);
    const none = await get('limit=0');
    assert.deepEqual([none.items, none.total], [[], all.total]);
    const last = await get(`offset=${all.total - 1}`);
    assert.equal(last.items.length, 1);
  });
  test('lists of what is under way are sorted and paged like any other', async () => {
    await me.fund(1_000_000);
    const invoices = await Promise.all(
      [1, 2, 3].map(() => me.outsideInvoice({ amount_msats: 1000, behavior: 'stuck' })),
    );
    const ids: string[] = [];
    for (const invoice of invoices) {
      const id = await me.accept(me.sendBody({ payment_request: invoice.payment_request }));
      ids.push(id);
      // One after the other: the last step of each is its place in a list by updated_at.
      const give_up_at = Date.now() + GIVE_UP_MS;
      while (!(await me.history(id)).includes('dispatched')) assert.ok(Date.now() < give_up_at);
    }
    for (const sort_key of ['created_at', 'updated_at']) {
      const first = await server.client.request(
        'GET',
        `${me.base}/payments?statuses[]=approved&sort_key=${sort_key}&sort_order=ASC&limit=2&pagination=cursor`,
      );
      const page = first.body as { items: { id: string }[]; next_cursor: string };
      assert.deepEqual(
        page.items.map(({ id }) => id),
        ids.slice(0, 2),
      );
      const rest = await server.client.request(
        'GET',
        `${me.base}/payments?statuses[]=approved&sort_key=${sort_key}&sort_order=ASC&limit=2&cursor=${page.next_cursor}`,
      );
      assert.deepEqual(
        (rest.body as { items: { id: string }[] }).items.map(({ id }) => id),
        ids.slice(2),
      );
    }
    const counted = await server.client.request('GET', `${me.base}/payments?statuses[]=approved`);
    assert.equal((counted.body as { total: number }).total, 3);
  });
  test('both array encodings filter by status', async () => {
    for (const query of [
      'statuses[]=receiving&statuses[]=generating',
      'statuses=receiving&statuses=generating',
    ]) {
      const answer = await server.client.request('GET', `${me.base}/payments?${query}`);
      const { items } = answer.body as { items: { status: string }[] };
      assert.ok(items.length > 0);
      assert.ok(items.every(({ status }) => status === 'receiving' || status === 'generating'));
    }
  });
});

test('threat 18: every list plan walks an index, whatever the filters', async () => {
  const { organization_id, environment_id, wallet_id } = server.credentials;
  const scope = `p.organization_id = '${organization_id}' AND p.environment_id = '${environment_id}'`;
  const plans = [
    `SELECT p.id FROM payments p WHERE ${scope} ORDER BY p.created_at DESC, p.id DESC LIMIT 101`,
    `SELECT p.id FROM payments p WHERE ${scope} AND p.wallet_id = '${wallet_id}' ORDER BY p.created_at DESC, p.id DESC LIMIT 101`,
    `SELECT p.id FROM payments p WHERE ${scope} AND p.metadata @> '{"a":"b"}' ORDER BY p.created_at DESC, p.id DESC LIMIT 101`,
    `SELECT p.id FROM payment_history h JOIN payments p ON p.organization_id = h.organization_id
       AND p.environment_id = h.environment_id AND p.id = h.payment_id AND p.last_position = h.position
     WHERE h.organization_id = '${organization_id}' AND h.environment_id = '${environment_id}'
     ORDER BY h.at DESC, h.payment_id DESC LIMIT 101`,
    `SELECT 1 FROM ledger_events WHERE organization_id = '${organization_id}' AND wallet_id = '${wallet_id}'
     ORDER BY effective_time DESC, seq DESC LIMIT 100`,
    `SELECT 1 FROM jobs WHERE worker IS NULL AND run_at <= now() ORDER BY run_at LIMIT 500`,
  ];
  const planOf = async (text: string): Promise<string> =>
    (await server.db.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`))
      .map((line) => line['QUERY PLAN'])
      .join('\n');
  for (const text of plans) {
    const plan = await planOf(text);
    assert.doesNotMatch(plan, /Seq Scan/, plan);
  }
  const checks = `SELECT p.id FROM payments p WHERE p.check_only AND ${scope} ORDER BY p.created_at DESC, p.id DESC LIMIT 101`;
  assert.match(await planOf(checks), /payments_checks/);
  const [moving] = await server.db.query<{ 'QUERY PLAN': object }>(
    `EXPLAIN (FORMAT json) SELECT p.id FROM (SELECT p.*, p.xmin AS xmin FROM jobs j
       JOIN payments p ON p.organization_id = j.organization_id AND p.environment_id = j.environment_id
         AND p.id = j.payment_id
       WHERE j.organization_id = '${organization_id}' AND j.environment_id = '${environment_id}'
         AND j.kind <> 'expire' OFFSET 0) p
     WHERE ${scope} AND p.state = ANY('{generating}') ORDER BY p.created_at DESC, p.id DESC LIMIT 101`,
  );
  const shown = JSON.stringify(moving);
  assert.match(shown, /jobs_moving/, shown);
  assert.doesNotMatch(shown, /payments_by_created/, shown);
});
