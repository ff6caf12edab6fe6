import { timeText, type Clock } from '../core/clock.ts';
import type { Sql } from '../core/db.ts';
import { checkAddress, CHAINS } from './address.ts';
import type { BuildRequest, BuiltTransaction, ChainTransaction } from './node.ts';
import { transactionId } from './block.ts';
import { FEE_SATS, makeTransaction, type MadeTransaction, type Sandbox } from './sandbox-keys.ts';

// The sandbox's chain: blocks when told or by the clock, a mempool, replacements, reorganizations. It checks no signature
// and no balance: its transactions are real in form, so that clients can decode them, and in nothing else.

const TARGET_BLOCKS = 1;
// What one read brings at most; a wallet with more in this window is read again from a later height.
const READ_LIMIT = 50_000;

interface TransactionRow {
  tx_id: string;
  height: number | null;
  mined_at: number | null;
  address: string;
  vout: number;
  amount_sats: bigint;
}

const scriptOf = (address: string): Buffer => {
  const checked = checkAddress(address, CHAINS.mutinynet);
  if (!checked.ok) throw new Error(`not an address of the sandbox's chain: ${address}`);
  return Buffer.from(checked.script, 'hex');
};

async function mineBlocks(sql: Sql, now: string, count: number): Promise<number> {
  const [tip] = await sql.query<{ height: number }>(
    'UPDATE sandbox_chain SET height = height + $1, last_block_at = $2 RETURNING height',
    [count, now],
  );
  const height = tip?.height ?? 0;
  await sql.query(
    `UPDATE sandbox_transactions SET state = 'mined', height = $1, mined_at = $2 WHERE state = 'mempool'`,
    [height - count + 1, now],
  );
  return height;
}

const insert = (sql: Sql, row: unknown[]) =>
  sql.query(
    `INSERT INTO sandbox_transactions (tx_id, direction, reference, raw, fee_sats, state, address, vout, amount_sats)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
    row,
    'sandbox transaction',
  );

/** What an outside payer sends, unconfirmed. */
const intoMempool = (sql: Sql, { tx_id, raw, vout }: MadeTransaction, address: string, amount_sats: bigint) =>
  insert(sql, [tx_id, 'in', null, raw, FEE_SATS, 'mempool', address, vout, amount_sats]);

export async function buildTransaction(
  { db, seed }: Sandbox,
  { reference, address, amount_sats, max_fee_sats }: BuildRequest,
): Promise<BuiltTransaction> {
  if (FEE_SATS > max_fee_sats) {
    return {
      state: 'failed',
      code: 'broadcast_fee_above_max',
      detail: `the transaction costs ${FEE_SATS} sats, the cap is ${max_fee_sats}`,
      context: {
        estimated_fee_sats: Number(FEE_SATS),
        max_fee_sats: Number(max_fee_sats),
        target_blocks: TARGET_BLOCKS,
      },
    };
  }
  const { tx_id, raw, vout } = makeTransaction(seed, scriptOf(address), amount_sats);
  await insert(db, [tx_id, 'out', reference, raw, FEE_SATS, 'built', address, vout, amount_sats]);
  // Asked twice, the first answer stands: one reference never has two transactions.
  const [stored] = await db.query<{ tx_id: string; vout: number; raw: string; fee_sats: bigint }>(
    'SELECT tx_id, vout, raw, fee_sats FROM sandbox_transactions WHERE reference = $1',
    [reference],
  );
  if (!stored) throw new Error(`transaction of ${reference} was not stored`);
  return { state: 'built', ...stored };
}

export async function broadcast({ db }: Sandbox, raw: string): Promise<void> {
  // Only what was never broadcast: bytes that come again must not take a mined transaction back.
  await db.query(`UPDATE sandbox_transactions SET state = 'mempool' WHERE tx_id = $1 AND state = 'built'`, [
    transactionId(raw),
  ]);
}

export async function transactionsSince(
  { db }: Sandbox,
  since_height: number,
): Promise<{ tip_height: number; transactions: ChainTransaction[] }> {
  const [tip] = await db.query<{ height: number }>('SELECT height FROM sandbox_chain', [], 'sandbox tip');
  const rows = await db.query<TransactionRow>(
    `SELECT tx_id, height, extract(epoch FROM mined_at)::integer AS mined_at, address, vout, amount_sats
     FROM (
       SELECT * FROM sandbox_transactions WHERE state = 'mined' AND height >= $1
       UNION ALL
       SELECT * FROM sandbox_transactions WHERE state = 'mempool'
     ) t LIMIT ${READ_LIMIT}`,
    [since_height],
    'sandbox transactions',
  );
  const transactions = rows.map(({ tx_id, height, mined_at, ...output }) => ({
    tx_id,
    height,
    mined_at,
    outputs: [output],
  }));
  return { tip_height: tip?.height ?? 0, transactions };
}

/** An outside payer's transaction, into the mempool. */
export async function payAddress(
  { db, seed }: Sandbox,
  address: string,
  amount_sats: bigint,
): Promise<{ tx_id: string; vout: number }> {
  const made = makeTransaction(seed, scriptOf(address), amount_sats);
  await intoMempool(db, made, address, amount_sats);
  return { tx_id: made.tx_id, vout: made.vout };
}

const timeOf = (clock: Clock): string => timeText(clock.now());

/** Mines blocks; answers the new height. */
export const mine = ({ db, clock }: Sandbox, count: number): Promise<number> =>
  db.transaction((sql) => mineBlocks(sql, timeOf(clock), count));

/**
 * Mines one block when the last one is older than this; answers whether it did. Of several servers one mines: the others
 * skip the row that it has locked, and find it young when they look again.
 */
export const mineIfDue = ({ db, clock }: Sandbox, interval_ms: number): Promise<boolean> =>
  db.transaction(async (sql) => {
    const due = await sql.query(
      'SELECT 1 FROM sandbox_chain WHERE last_block_at <= $1 FOR UPDATE SKIP LOCKED',
      [timeText(clock.now() - interval_ms)],
    );
    if (due.length > 0) await mineBlocks(sql, timeOf(clock), 1);
    return due.length > 0;
  });

/** A new branch that is longer by one, and empty. Outside payers double-spend; our own sends wait again. */
export const reorg = (
  { db, clock }: Sandbox,
  depth: number,
): Promise<{ height: number; orphaned: string[] }> =>
  db.transaction(async (sql) => {
    const [tip] = await sql.query<{ height: number }>(
      'UPDATE sandbox_chain SET height = height + 1, last_block_at = $1 RETURNING height',
      [timeOf(clock)],
    );
    const height = tip?.height ?? 0;
    const undone = await sql.query<{ tx_id: string; state: string }>(
      `UPDATE sandbox_transactions SET height = NULL, mined_at = NULL,
         state = CASE direction WHEN 'in' THEN 'gone' ELSE 'mempool' END
       WHERE state = 'mined' AND height > $1 RETURNING tx_id, state`,
      [height - 1 - depth],
    );
    return { height, orphaned: undone.filter(({ state }) => state === 'gone').map(({ tx_id }) => tx_id) };
  });

/** Replaces an outside transaction in the mempool; null when there is none of that id. */
export const replace = ({ db, seed }: Sandbox, tx_id: string, to_us: boolean): Promise<string | null> =>
  db.transaction(async (sql) => {
    const [old] = await sql.query<{ address: string; amount_sats: bigint }>(
      `UPDATE sandbox_transactions SET state = 'gone'
       WHERE tx_id = $1 AND state = 'mempool' AND direction = 'in' RETURNING address, amount_sats`,
      [tx_id],
    );
    if (!old) return null;
    const made = makeTransaction(seed, scriptOf(old.address), old.amount_sats);
    if (to_us) await intoMempool(sql, made, old.address, old.amount_sats);
    return made.tx_id;
  });
