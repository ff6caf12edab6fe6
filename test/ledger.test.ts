import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { lockWallets, newPosting, deposit, post, withdraw } from '../src/ledger/ledger.ts';
import { nodeBalances, rollUp } from '../src/ledger/rollup.ts';
import { actor } from './actor.ts';
import { newTenant, rolledUp } from './fixtures.ts';
import { openServer } from './setup.ts';
import { withKey } from './tenant.ts';

interface Event {
  type: string;
  payment_id?: string;
  amount?: object;
  currency?: string;
  payment_breakdown?: object;
  effective_time: string;
}
interface Page {
  items: Event[];
  offset: number;
  limit: number;
  total: number;
}

const { server, me } = await openServer();

const msats = (amount: number) => ({ currency: 'btc', amount, unit: 'msats' });
const pathOf = (id: string, query = '') =>
  `/organizations/${server.credentials.organization_id}/wallets/${id}/ledger${query}`;
async function page(id: string, query = ''): Promise<Page> {
  const answer = await server.client.request('GET', pathOf(id, query));
  assert.equal(answer.status, 200, answer.text);
  return answer.body as Page;
}

/** An operator's movement, as `coulomb deposit` and `coulomb withdraw` make it. */
async function operate(wallet_id: string, amount: bigint): Promise<void> {
  const { organization_id } = server.credentials;
  await server.db.transaction(async (sql) => {
    const [account] = await lockWallets(sql, [{ organization_id, id: wallet_id }]);
    assert.ok(account);
    const posting = newPosting();
    const reason = { payment_id: null, at: new Date().toISOString() };
    if (amount > 0n) deposit(posting, account, amount, reason);
    else assert.ok(withdraw(posting, account, -amount, reason));
    await post(sql, posting);
  });
}

/** A wallet with one event of every type; answers its id and those of its payments. */
async function storied() {
  const id = await me.newWallet();
  await me.fund(300_000, id);
  const invoice = await me.outsideInvoice({ amount_msats: 100_000, fee_msats: 700 });
  const sent = await me.send(
    { payment_request: invoice.payment_request, max_fee: { currency: 'btc', amount: 1000 } },
    { wallet_id: id },
  );
  const failing = await me.outsideInvoice({ amount_msats: 50_000, behavior: 'fail' });
  const failed = await me.send(
    { payment_request: failing.payment_request, max_fee: { currency: 'btc', amount: 0 } },
    { wallet_id: id },
  );
  await operate(id, 4000n);
  await operate(id, -1000n);
  return { id, sent: sent.id, failed: failed.id };
}

test('every movement shows as the contract has it, newest first, with exact principal and fees', async () => {
  const { id, sent, failed } = await storied();
  const { items, ...paging } = await page(id);
  assert.deepEqual(paging, { offset: 0, limit: 100, total: 7 });
  assert.deepEqual(
    items.map(({ type }) => type),
    ['withdrawn', 'deposited', 'released', 'held', 'captured', 'held', 'credited'],
  );
  const [withdrawn, deposited, released, , captured, held, credited] = items;
  assert.deepEqual(withdrawn?.amount, msats(1000));
  assert.deepEqual(deposited?.amount, msats(4000));
  assert.deepEqual([released?.payment_id, released?.currency, released?.amount], [failed, 'btc', undefined]);
  assert.deepEqual([held?.payment_id, held?.amount], [sent, msats(101_000)]);
  assert.deepEqual(captured?.amount, msats(100_700));
  const fee = (kind: string) => ({
    amount: msats(0),
    basis_points: 0,
    payment_classification: { kind, route: 'direct' },
  });
  assert.deepEqual(captured?.payment_breakdown, {
    principal: msats(100_000),
    network_fee: msats(700),
    processing_fee: fee('bolt11'),
  });
  assert.deepEqual(credited?.payment_breakdown, {
    principal: msats(300_000),
    network_fee: msats(0),
    processing_fee: fee('bolt11'),
  });
  assert.equal((await me.balance(id)).total, 300_000 - 100_700 + 4000 - 1000);
});

test('an internal payment is classified as short_circuit on both sides', async () => {
  const [payer, payee] = [await me.newWallet(), await me.newWallet()];
  await me.fund(20_000, payer);
  const receive = await me.receive({ wallet_id: payee, amount: { currency: 'btc', amount: 5000 } });
  await me.send({ payment_request: receive.data.payment_request }, { wallet_id: payer });
  for (const id of [payer, payee]) {
    const [event] = (await page(id)).items;
    assert.ok(event?.payment_breakdown);
    const { processing_fee } = event.payment_breakdown as {
      processing_fee: { payment_classification: object };
    };
    assert.deepEqual(processing_fee.payment_classification, { kind: 'bolt11', route: 'short_circuit' });
  }
});

test('pages, order and filters', async () => {
  const { id, sent } = await storied();
  const all = (await page(id)).items;
  const reversed = (await page(id, '?sort_order=ASC')).items;
  assert.deepEqual(reversed, all.toReversed());
  for (const key of ['effective_time', 'message_time', 'time_and_effective_time']) {
    assert.deepEqual((await page(id, `?sort_key=${key}`)).items, all);
  }
  assert.deepEqual(await page(id, '?offset=2&limit=3'), {
    items: all.slice(2, 5),
    offset: 2,
    limit: 3,
    total: 7,
  });
  assert.deepEqual(await page(id, '?limit=0'), { items: [], offset: 0, limit: 0, total: 7 });
  assert.deepEqual(await page(id, '?offset=7'), { items: [], offset: 7, limit: 100, total: 7 });
  assert.equal((await page(id, '?limit=4294967295')).limit, 1000);
  const of_send = all.filter(({ payment_id }) => payment_id === sent);
  assert.deepEqual(await page(id, `?payment_id=${sent}`), {
    items: of_send,
    offset: 0,
    limit: 100,
    total: 2,
  });
  const { effective_time: start = '' } = all[4] ?? {};
  const { effective_time: end = '' } = all[2] ?? {};
  const between = await page(id, `?start_date=${start}&end_date=${end}`);
  assert.deepEqual([between.items, between.total], [all.slice(2, 5), 3], 'both dates are inclusive');
  const in_another_zone = start
    .replace(/T(\d\d)/, (_all, hour: string) => `T${hour}`)
    .replace('Z', '%2B00:00');
  assert.equal((await page(id, `?start_date=${in_another_zone}&payment_id=${sent}`)).total, 1);
  assert.equal((await page(id, `?payment_id=${randomUUID()}`)).total, 0);
});

test('bad paging and filters are 400 invalid_parameter, unknown parameters are ignored', async () => {
  const { wallet_id } = server.credentials;
  for (const query of [
    'limit=4294967296',
    'limit=-1',
    'offset=x',
    'offset=1.5',
    'payment_id=x',
    'start_date=yesterday',
    'start_date=2026-02-30T00:00:00Z',
    'end_date=0000-01-01T00:00:00Z',
    'sort_key=amount',
    'sort_order=down',
  ]) {
    const answer = await server.client.request('GET', pathOf(wallet_id, `?${query}`));
    const { error } = answer.body as { error?: { type: string } };
    assert.deepEqual([answer.status, error?.type], [400, 'invalid_parameter'], `${query}: ${answer.text}`);
  }
  assert.equal((await page(wallet_id, '?whatever=1')).offset, 0);
});

test('what a node should be worth is the same before and after a rollup, over all organizations', async () => {
  const tenant = await newTenant(server.db);
  const other = actor({ ...server, credentials: tenant, client: withKey(server.client, tenant.api_key) });
  const at_first = await nodeBalances(server.db, 'sandbox');
  await me.fund(10_000);
  await other.fund(5000);
  const expected = { ...at_first, channels_msats: at_first.channels_msats + 15_000n };
  assert.deepEqual(await nodeBalances(server.db, 'sandbox'), expected);
  assert.ok((await rolledUp(server.db)) > 0);
  assert.deepEqual(await nodeBalances(server.db, 'sandbox'), expected);
  await other.fund(2000);
  assert.equal((await nodeBalances(server.db, 'sandbox')).channels_msats, expected.channels_msats + 2000n);
  await rolledUp(server.db);
  assert.equal((await nodeBalances(server.db, 'sandbox')).channels_msats, expected.channels_msats + 2000n);
});

test('a rollup leaves out what is still under way and takes it when it has committed', async () => {
  const expected = (await nodeBalances(server.db, 'sandbox')).channels_msats;
  const { organization_id, wallet_id } = server.credentials;
  await server.db.transaction(async (sql) => {
    // It has its number now and commits after others that come later.
    await sql.query('SELECT pg_current_xact_id()');
    const other = await me.newWallet();
    await me.fund(3000, other);
    await rollUp(server.db);
    await sql.query(
      `INSERT INTO transfers (organization_id, from_account, to_account, currency, amount, kind)
       SELECT organization_id, id, $2, 'btc', 500, 'test' FROM accounts
       WHERE organization_id = $1 AND kind = 'channels' AND currency = 'btc'`,
      [organization_id, wallet_id],
    );
    await sql.query('UPDATE accounts SET total = total + 500 WHERE organization_id = $1 AND id = $2', [
      organization_id,
      wallet_id,
    ]);
    await sql.query(
      `INSERT INTO ledger_events (organization_id, wallet_id, effective_time, type, event_id, currency, amount)
       VALUES ($1, $2, now(), 'deposited', gen_random_uuid(), 'btc', 500)`,
      [organization_id, wallet_id],
    );
  });
  assert.equal((await nodeBalances(server.db, 'sandbox')).channels_msats, expected + 3500n);
  await rolledUp(server.db);
  assert.equal((await nodeBalances(server.db, 'sandbox')).channels_msats, expected + 3500n);
});

test('rollups begin again from the entries when the database was restored into another cluster', async () => {
  const expected = await nodeBalances(server.db, 'sandbox');
  await server.db.query(`UPDATE settings SET value = '"99999999999"' WHERE key = 'rollup_before_txid'`);
  await rolledUp(server.db);
  assert.deepEqual(await nodeBalances(server.db, 'sandbox'), expected);
});
