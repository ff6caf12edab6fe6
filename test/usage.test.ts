import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { timeText } from '../src/core/clock.ts';
import { insertRows, rowsParameter } from '../src/core/db.ts';
import type { WalletAccount } from '../src/ledger/ledger.ts';
import { createUsages, keepMinutes, READ_USAGE, type CountedSend } from '../src/policies/usage.ts';
import { walletAccount } from './account.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database.drop());

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const START_MS = Date.parse('2026-03-01T00:00:00Z');

interface Send {
  at_ms: number;
  microseconds: number;
  amount: bigint;
  fails: boolean;
  promoted: boolean;
}

// Close to where a window or a minute ends, or anywhere.
const offset = fc.oneof(
  fc.integer({ min: 0, max: DAY_MS + 2 * MINUTE_MS }),
  fc.integer({ min: -3, max: 3 }).map((ms) => Math.max(0, ms)),
  fc.integer({ min: -3, max: 3 }).map((ms) => DAY_MS + ms),
  fc.integer({ min: -3, max: 3 }).map((ms) => DAY_MS + MINUTE_MS + ms),
  fc.integer({ min: 0, max: 2 * MINUTE_MS }).map((ms) => DAY_MS - MINUTE_MS + ms),
);
const sends = fc.array(
  fc.record({
    at_ms: offset,
    microseconds: fc.integer({ min: 0, max: 999 }),
    amount: fc.bigInt({ min: 1n, max: 2_100_000_000_000_000_000n }),
    fails: fc.boolean(),
    promoted: fc.boolean(),
  }),
  { maxLength: 12 },
);

const accountOf = (organization_id: string, id: string): WalletAccount =>
  walletAccount({
    organization_id,
    id,
    environment_id: organization_id,
    node_id: 'sandbox',
    sends_per_minute: 1n,
    send_volume: 1n,
  });

/** A send as payments has it once it was held, and ended. */
function paymentOf(account: WalletAccount, send: Send): object {
  const { organization_id, environment_id, id } = account;
  const held_at = timeText(START_MS + send.at_ms, send.microseconds);
  const created_at = send.promoted ? timeText(START_MS - DAY_MS) : held_at;
  return {
    organization_id,
    environment_id,
    id: randomUUID(),
    wallet_id: id,
    line_of_credit_id: id,
    node_id: 'sandbox',
    direction: 'send',
    kind: 'bolt11',
    category: 'standard',
    check_only: false,
    promoted_at: send.promoted ? held_at : null,
    currency: 'btc',
    state: send.fails ? 'failed' : 'completed',
    amount: send.amount,
    processing_fee: 0n,
    credited: 0n,
    calls: 0,
    fee_bps: 0,
    received: 0n,
    suspended: 0n,
    gross: 0n,
    exchanges: [],
    hold_id: randomUUID(),
    receipts: [],
    last_position: 1,
    created_at,
    updated_at: held_at,
  };
}

test('what a wallet sent lately is exact at any moment, counted as it happened or from what is stored', async () => {
  const { db } = database;
  await fc.assert(
    fc.asyncProperty(sends, offset, fc.integer({ min: 0, max: 999 }), async (made, now_ms, microseconds) => {
      const account = accountOf(randomUUID(), randomUUID());
      const before_now = made.filter(
        ({ at_ms, microseconds: us }) => at_ms * 1000 + us < now_ms * 1000 + microseconds,
      );
      const counted = (send: Send): CountedSend => ({
        organization_id: account.organization_id,
        id: account.id,
        held_at: timeText(START_MS + send.at_ms, send.microseconds),
        amount: send.amount,
      });
      const usages = createUsages();
      for (const send of before_now) usages.add(account, counted(send));
      for (const send of before_now.filter(({ fails }) => fails)) usages.giveBack(account, counted(send));
      const now = timeText(START_MS + now_ms, microseconds);
      const ageUs = (send: Send) => (now_ms - send.at_ms) * 1000 + microseconds - send.microseconds;
      const expected = {
        sends: BigInt(before_now.filter((send) => ageUs(send) < MINUTE_MS * 1000).length),
        volume: before_now
          .filter((send) => !send.fails && ageUs(send) < DAY_MS * 1000)
          .reduce((sum, { amount }) => sum + amount, 0n),
      };
      await db.transaction(async (sql) => {
        await insertRows(
          sql,
          'payments',
          before_now.map((send) => paymentOf(account, send)),
        );
        await usages.flush(sql);
        const asWritten = createUsages();
        await asWritten.load(sql, [account], now);
        assert.deepEqual(asWritten.of(account), expected);
        await keepMinutes(sql, account, now);
        const recounted = createUsages();
        await recounted.load(sql, [account], now);
        assert.deepEqual(recounted.of(account), expected);
      });
    }),
    { numRuns: 500 },
  );
});

test('sends of one batch are seen by the next of it, and cost nothing where no policy asks', async () => {
  const { db } = database;
  const account = accountOf(randomUUID(), randomUUID());
  const free = { ...accountOf(randomUUID(), randomUUID()), sends_per_minute: null, send_volume: null };
  const usages = createUsages();
  await usages.load(db, [account, free], timeText(START_MS));
  for (const wallet of [account, free]) {
    const { organization_id, id } = wallet;
    usages.add(wallet, { organization_id, id, held_at: timeText(START_MS), amount: 5n });
  }
  assert.deepEqual(usages.of(account), { sends: 1n, volume: 5n });
  assert.deepEqual(usages.of(free), { sends: 0n, volume: 0n });
  await usages.flush(db);
  const rows = await db.query<{ wallet_id: string }>('SELECT wallet_id FROM send_minutes');
  assert.ok(rows.some(({ wallet_id }) => wallet_id === account.id));
  assert.ok(!rows.some(({ wallet_id }) => wallet_id === free.id));
});

test('reading it walks the index of the wallet by time, however much is stored', async () => {
  const { db } = database;
  const account = accountOf(randomUUID(), randomUUID());
  await db.query(
    `INSERT INTO payments (organization_id, environment_id, id, wallet_id, line_of_credit_id, node_id, direction, kind,
       category, currency, state, amount, hold_id, receipts, last_position, created_at, updated_at)
     SELECT $1, $1, gen_random_uuid(), CASE WHEN n % 2 = 0 THEN $2::uuid ELSE $1::uuid END, $2, 'sandbox', 'send', 'bolt11',
       'standard', 'btc', 'completed', 1000, gen_random_uuid(), '[]', 1, now() - n * interval '20 s', now()
     FROM generate_series(1, 20000) n`,
    [account.organization_id, account.id],
  );
  await db.query(
    `INSERT INTO send_minutes (organization_id, wallet_id, minute, amount)
     SELECT $1, CASE WHEN n % 50 = 0 THEN $2::uuid ELSE gen_random_uuid() END,
       date_trunc('minute', now()) - n / 10 * interval '1 minute', 1000
     FROM generate_series(1, 10000) n`,
    [account.organization_id, account.id],
  );
  await db.query('ANALYZE payments, send_minutes');
  const { organization_id, id } = account;
  const asked = rowsParameter([{ organization_id, id, velocity: true, volume: true }]);
  const [minute, day, whole] = [60_000, DAY_MS, DAY_MS - MINUTE_MS].map((ms) => timeText(Date.now() - ms));
  const lines = await db.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${READ_USAGE}`, [
    asked,
    minute,
    day,
    whole,
  ]);
  const plan = lines.map((line) => line['QUERY PLAN']).join('\n');
  assert.doesNotMatch(plan, /Seq Scan|payments_pkey|payments_by_created/, plan);
  assert.match(plan, /payments_of_wallet/, plan);
  assert.match(plan, /payments_promoted/, plan);
  assert.match(plan, /send_minutes_pkey/, plan);
});
