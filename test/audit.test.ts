import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Sql } from '../src/core/db.ts';
import { auditOn } from '../src/ledger/audit.ts';
import { foldCounts } from '../src/payments/fold.ts';
import { dollars } from './dollars.ts';
import { auditClean, rolledUp } from './fixtures.ts';
import { cases, HISTORY, ids, TOTAL_OF_TRANSFERS } from './audit-cases.ts';
import { openServer } from './setup.ts';
import { checkSend } from './tenant.ts';

const { server, me } = await openServer();

before(async () => {
  ids.wallet = server.credentials.wallet_id;
  ids.line = server.credentials.line_of_credit_id;
  await me.fund(1_000_000);
  const path = `/organizations/${server.credentials.organization_id}/wallets/${ids.wallet}/policies`;
  const policies = { send_volume_limit_sats: 2n ** 64n - 1n, max_payment_size_sats: 5000 };
  assert.equal((await server.client.request('PATCH', path, { body: policies })).status, 202);
  const invoice = (fields: object) => me.outsideInvoice({ amount_msats: 10_000, ...fields });
  ids.sent = (await me.send({ payment_request: (await invoice({ fee_msats: 5 })).payment_request })).id;
  ids.failed = (await me.send({ payment_request: (await invoice({ behavior: 'fail' })).payment_request })).id;
  const stuck = me.sendBody({ payment_request: (await invoice({ behavior: 'stuck' })).payment_request });
  ids.stuck = await me.accept(stuck);
  const other = await me.newWallet(500);
  const inside = await me.receive({ wallet_id: other, amount: { currency: 'btc', amount: 7000 } });
  await me.send({ payment_request: inside.data.payment_request });
  ids.received = inside.id;
  ids.open = (await me.receive()).id;
  ids.check = await checkSend(server, me.sendBody({ payment_request: (await invoice({})).payment_request }));
  // Dollars, and some bitcoin that is worth less than a cent.
  const my = dollars(server, me);
  await my.setRate('1000e0');
  await my.fund(500);
  ids.dollars = (await my.pay(300_000_000, await invoice({ amount_msats: 300_000_000 }))).id;
  const part = await my.receive(2, { payment_kind: 'onchain' });
  await me.sandbox('payments', { address: part.data.address, amount_msats: 60_000_000 });
  await me.sandbox('blocks', { count: 1 });
  await me.until(part.id, ({ data }) => data.receipts?.[0]?.data.is_pending === false);
  await rolledUp(server.db);
  await foldCounts(server.db, 5000);
});

test('the audit passes on what payments of every kind leave behind, and looked at all of it', async () => {
  await auditClean(server.db);
  const rows = await server.db.transaction(auditOn);
  for (const { check, checked } of rows) assert.ok(checked > 0n, `"${check}" looked at nothing`);
});

class Undo extends Error {}

/** Breaks the stored data as nothing but a bug or a hand could, and names the checks that notice. */
async function noticed(breakIt: (sql: Sql) => Promise<unknown>): Promise<string[]> {
  let failed: string[] = [];
  await server.db
    .transaction(async (sql) => {
      // Keeps the append-only triggers and foreign keys out of the way.
      await sql.query(`SET LOCAL session_replication_role = 'replica'`);
      await breakIt(sql);
      failed = (await auditOn(sql)).filter(({ ok }) => !ok).map(({ check }) => check);
      throw new Undo();
    })
    .catch((error: unknown) => {
      if (!(error instanceof Undo)) throw error;
    });
  return failed;
}

const run =
  (...statements: string[]) =>
  async (sql: Sql): Promise<void> => {
    for (const statement of statements) await sql.query(statement);
  };
for (const [what, expected, statements] of cases) {
  test(`threat 9: the audit notices ${what}`, async () => {
    const failed = await noticed(run(...statements()));
    assert.ok(failed.includes(expected), `noticed only: ${failed.join('; ') || 'nothing'}`);
  });
}

test('a history longer than usual is read in order', async () => {
  const prolong = (last: string) => [
    `INSERT INTO payment_history SELECT organization_id, environment_id, id, last_position + n,
       CASE WHEN n = 20 THEN '${last}' ELSE 'partially_received' END, NULL, now()
     FROM payments, generate_series(1, 20) n WHERE id = '${ids.received}'`,
    `UPDATE payments SET last_position = last_position + 20 WHERE id = '${ids.received}'`,
  ];
  assert.deepEqual(await noticed(run(...prolong('partially_received'))), []);
  assert.deepEqual(await noticed(run(...prolong('completed'))), [HISTORY]);
  assert.deepEqual(await noticed(run(...prolong('unheard_of'))), [HISTORY]);
});

test('every check is shown to fail', async () => {
  const all = (await server.db.transaction(auditOn)).map(({ check }) => check);
  assert.deepEqual(new Set(cases.map(([, expected]) => expected)), new Set(all));
});

test('a failed check counts its faults and shows some of them', async () => {
  await server.db
    .transaction(async (sql) => {
      await sql.query(`UPDATE accounts SET total = total + 1 WHERE id = $1`, [ids.wallet]);
      const row = (await auditOn(sql)).find(({ check }) => check === TOTAL_OF_TRANSFERS);
      assert.deepEqual([row?.ok, row?.faulty], [false, 1n]);
      assert.equal((JSON.parse(row?.faults[0] ?? '{}') as { id?: string }).id, ids.wallet);
      throw new Undo();
    })
    .catch((error: unknown) => {
      if (!(error instanceof Undo)) throw error;
    });
});
