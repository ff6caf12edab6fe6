import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Database } from '../src/core/db.ts';
import { COUNTED_BY_TIME, foldCounts } from '../src/payments/fold.ts';
import { cutPeriod } from '../src/payments/periods.ts';
import { STATUS_SQL } from '../src/payments/states.ts';
import { countsStatement, type SummaryQuery } from '../src/payments/summary.ts';
import { actor } from './actor.ts';
import { createClient } from './client.ts';
import { spawnServer } from './fixtures.ts';
import { openServer } from './setup.ts';
import { everyKind, newcomer, type Counted } from './summaries.ts';

const { server } = await openServer();

/** Many payments at once, as the server leaves them (bench/seed.sql): two seconds apart, the last one now. */
async function store(
  tenant: { organization_id: string; environment_id: string; line_of_credit_id: string },
  wallets: readonly string[],
  count: number,
): Promise<void> {
  const text = readFileSync(new URL('../bench/seed.sql', import.meta.url), 'utf8');
  const { organization_id, environment_id, line_of_credit_id } = tenant;
  const scope = [organization_id, environment_id, line_of_credit_id, wallets];
  stored += count;
  await server.db.query(text, [...scope, count, 'sandbox', stored - count]);
}
// The seed's payment hashes follow from the numbers: each is used once.
let stored = 0;

test('any period of a large wallet, a small one and the environment is counted exactly', async () => {
  const tenant = await newcomer(server);
  const { organization_id, wallet_id, me } = tenant;
  const small = await me.newWallet();
  await store(tenant, [wallet_id], COUNTED_BY_TIME - 1);
  await store(tenant, [small, wallet_id], 100);
  await foldCounts(server.db, 5000);
  await store(tenant, [wallet_id], 20_000);
  await me.fund(1000);
  await foldCounts(server.db, 5000);
  await me.fund(1000);
  const payments = await server.db.query<{ wallet_id: string; created_at: string }>(
    'SELECT wallet_id, created_at FROM payments WHERE organization_id = $1 ORDER BY created_at',
    [organization_id],
  );
  const micros = (time: string): string => `${time.slice(0, -1).padEnd(26, '0')}Z`;
  const recount = (ids: string[], start?: string, end?: string): Counted => {
    const [from, to] = [micros(start ?? '0000Z'), micros(end ?? '9999Z')];
    const found = payments.filter(
      ({ wallet_id: of, created_at }) => created_at >= from && created_at <= to && ids.includes(of),
    );
    return {
      total_count: found.length,
      oldest_created_at: found[0]?.created_at ?? null,
      newest_created_at: found.at(-1)?.created_at ?? null,
    };
  };
  // A payment's own time, or a little beside it, or the beginning of a slot.
  const moment = fc
    .tuple(fc.nat(payments.length - 1), fc.constantFrom<number | 'slot'>(0, 0, 1, -1, 5000, 'slot'))
    .map(([index, beside]) => {
      const at = payments[index]?.created_at ?? '';
      if (beside === 'slot') return `${at.slice(0, 18)}0.000000Z`;
      return beside === 0 ? at : new Date(Date.parse(at) + beside).toISOString();
    });
  const some = fc.option(moment, { nil: undefined, freq: 5 });
  await fc.assert(
    fc.asyncProperty(some, some, async (start, end) => {
      const query = [start && `start_date=${start}`, end && `end_date=${end}`].filter(Boolean).join('&');
      const totals = ({ total_count, oldest_created_at, newest_created_at }: Counted) => ({
        total_count,
        oldest_created_at,
        newest_created_at,
      });
      assert.deepEqual(totals(await tenant.summary(query)), recount([wallet_id, small], start, end));
      for (const id of [wallet_id, small]) {
        assert.deepEqual(totals(await tenant.ofWallet(id, query)), recount([id], start, end));
      }
    }),
    { numRuns: 300 },
  );
});

/** The counts as a summary reads them, against the payments, both of one snapshot. */
async function compareOnce(db: Database, query: SummaryQuery): Promise<{ settled: boolean; total: number }> {
  return db.transaction(async (sql) => {
    await sql.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const { text, values } = countsStatement(query, cutPeriod(query.start_date, query.end_date));
    const counted = await sql.query<{
      settled: boolean;
      status: string;
      count: bigint;
      oldest: string;
      newest: string;
    }>(`SELECT * FROM (${text}) t ORDER BY direction, status`, values);
    const settled = counted.every((row) => row.settled);
    const payments = await sql.query<{
      direction: string;
      status: string;
      count: bigint;
      oldest: string;
      newest: string;
    }>(
      `SELECT p.direction, ${STATUS_SQL} AS status, count(*), min(created_at) AS oldest, max(created_at) AS newest
       FROM payments p WHERE organization_id = $1 AND ($2::uuid IS NULL OR wallet_id = $2)
         AND created_at >= coalesce($3, '-infinity'::timestamptz)
       GROUP BY p.direction, ${STATUS_SQL} ORDER BY 1, 2`,
      [query.organization_id, query.wallet_id, query.start_date],
    );
    const of = (rows: typeof payments) =>
      rows.map(({ direction, status, count, oldest, newest }) => [direction, status, count, oldest, newest]);
    if (settled) assert.deepEqual(of(counted as unknown as typeof payments), of(payments));
    return { settled, total: Number(payments.reduce((sum, { count }) => sum + count, 0n)) };
  });
}

test('at every moment under traffic on two servers the counts are those of the payments', async (t) => {
  const tenant = await newcomer(server);
  const { organization_id, environment_id, wallet_id } = tenant;
  await store(tenant, [wallet_id], COUNTED_BY_TIME);
  await tenant.me.fund(10_000_000);
  const second = await spawnServer(server.database_url);
  t.after(() => second.kill('SIGTERM'));
  const client = createClient(second.base_url, tenant.api_key);
  const there = actor({ ...server, credentials: tenant, client });
  const other = await tenant.me.newWallet();
  const scope = { organization_id, environment_id, include_inactive: false };
  const start_date = new Date(Date.now() - 60_000).toISOString();
  const queries = [
    scope,
    { ...scope, wallet_id },
    { ...scope, start_date },
    { ...scope, wallet_id, start_date },
  ];
  const traffic = { on: true };
  const work = async (me: typeof there, index: number): Promise<void> => {
    while (traffic.on) {
      const inside = await me.receive({ wallet_id: other, amount: { currency: 'btc', amount: 1000 } });
      if (index % 2 === 0) await me.receive();
      await me.send({ payment_request: inside.data.payment_request });
      await me.send({ payment_request: inside.data.payment_request });
    }
  };
  const work_done = Promise.all(
    [0, 1, 2, 3].flatMap((index) => [work(tenant.me, index), work(there, index)]),
  );
  const folding = (async () => {
    while (traffic.on) await foldCounts(server.db, 5000);
  })();
  try {
    let before_it = 0;
    const until = COUNTED_BY_TIME + 600;
    while (before_it < until) {
      for (const query of queries) assert.ok((await compareOnce(server.db, query)).settled);
      const shown = await tenant.summary();
      const { total } = await compareOnce(server.db, scope);
      assert.ok(
        before_it <= shown.total_count && shown.total_count <= total,
        'between a count before and one after',
      );
      before_it = total;
    }
  } finally {
    traffic.on = false;
    await Promise.all([work_done, folding]);
  }
  const through_other = await client.request('GET', `${tenant.me.base}/payments/summary`);
  assert.deepEqual(through_other.body, await tenant.summary());
});

test('payments that nobody has counted, and counts of another cluster, are counted anew', async () => {
  const tenant = await newcomer(server);
  await everyKind(tenant);
  const right = await tenant.summary();
  const spoil = (statement: string, snapshot: string) =>
    server.db.transaction(async (sql) => {
      await sql.query('LOCK TABLE payment_counts_horizon IN SHARE ROW EXCLUSIVE MODE');
      await sql.query(statement);
      await sql.query(`UPDATE payment_counts_horizon SET snapshot = ${snapshot}`);
    });
  await spoil('DELETE FROM payment_counts', 'NULL');
  assert.deepEqual(await tenant.summary(), right);
  // As after a restore into a cluster whose transactions have lower numbers.
  await spoil('UPDATE payment_counts SET count = count + 1', `'9000000000:9000000000:'`);
  assert.deepEqual(await tenant.summary(), right);
});

test('threat 18: a summary reads no whole table', async () => {
  const { organization_id, environment_id, wallet_id } = await newcomer(server);
  const scope = { organization_id, environment_id };
  const dates = { start_date: '2026-01-01T00:00:00Z', end_date: '2026-02-01T00:00:00Z' };
  for (const include_inactive of [false, true]) {
    for (const query of [
      { ...scope },
      { ...scope, wallet_id },
      { ...scope, ...dates },
      { ...scope, wallet_id, ...dates },
    ]) {
      const asked = { ...query, include_inactive };
      const cut =
        'start_date' in query ? cutPeriod(dates.start_date, dates.end_date) : cutPeriod(undefined, undefined);
      const { text, values } = countsStatement(asked, cut);
      const lines = await server.db.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, values);
      const plan = lines.map((line) => line['QUERY PLAN']).join('\n');
      // The horizon is one row.
      assert.doesNotMatch(plan.replaceAll('Seq Scan on payment_counts_horizon', ''), /Seq Scan/, plan);
      const counted = [...plan.matchAll(/using payment_counts_pkey.*\n\s+Index Cond: (.*)/g)];
      assert.ok(counted.length > 0, plan);
      for (const [, condition] of counted)
        assert.match(condition ?? '', /scope_id = .*width = .*slot >= /, plan);
      const ends = [...plan.matchAll(/using (payments_\w+) on payments.*\n\s+Index Cond: (.*)/g)];
      assert.equal(ends.length, 'start_date' in query ? 2 : 0, plan);
      for (const [, , condition] of ends) assert.match(condition ?? '', /created_at >= /, plan);
    }
  }
});
