import type { Database, Sql } from '../core/db.ts';

// Any number that no other advisory lock of the product uses.
const ROLLUP_LOCK = 7_102_001;
/** Transfers of transactions before this one are in the rollups; one horizon for all accounts. */
const HORIZON_KEY = 'rollup_before_txid';
const HORIZON = `coalesce((SELECT (value #>> '{}')::xid8 FROM settings WHERE key = '${HORIZON_KEY}'), '0'::xid8)`;

/**
 * Adds what was transferred since the last time to the accounts' rollups. It stops at the oldest transaction
 * still under way: whatever commits later has a number that was not summed yet, so none is ever skipped.
 * Answers how many accounts changed; 0 as well when another process is at it.
 */
export async function rollUp(db: Database): Promise<number> {
  return db.transaction(async (sql) => {
    const [lock] = await sql.query<{ mine: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS mine', [
      ROLLUP_LOCK,
    ]);
    if (!lock?.mine) return 0;
    await restartAfterRestore(sql);
    const changed = await sql.query(
      `WITH span AS MATERIALIZED (
         SELECT ${HORIZON} AS from_txid, pg_snapshot_xmin(pg_current_snapshot()) AS before_txid
       ), moved AS (
         INSERT INTO settings (key, value) SELECT '${HORIZON_KEY}', to_jsonb(before_txid::text) FROM span
         ON CONFLICT (key) DO UPDATE SET value = excluded.value
       ), fresh AS MATERIALIZED (
         SELECT organization_id, from_account, to_account, amount FROM transfers
         WHERE txid >= (SELECT from_txid FROM span) AND txid < (SELECT before_txid FROM span)
       ), sums AS (
         SELECT organization_id, account_id, sum(amount) AS amount FROM (
           SELECT organization_id, to_account AS account_id, amount::numeric FROM fresh
           UNION ALL SELECT organization_id, from_account, -amount::numeric FROM fresh
         ) sides GROUP BY organization_id, account_id
       )
       INSERT INTO account_rollups AS r (organization_id, account_id, before_txid, balance)
       SELECT organization_id, account_id, before_txid, amount FROM sums CROSS JOIN span
       ON CONFLICT (organization_id, account_id)
       DO UPDATE SET balance = r.balance + excluded.balance, before_txid = excluded.before_txid
       RETURNING r.account_id`,
    );
    return changed.length;
  });
}

/** A database restored into another cluster counts its transactions anew: begin again from the entries. */
async function restartAfterRestore(sql: Sql): Promise<void> {
  const [horizon] = await sql.query<{ ahead: boolean }>(
    `SELECT ${HORIZON} > pg_snapshot_xmax(pg_current_snapshot()) AS ahead`,
  );
  if (!horizon?.ahead) return;
  await sql.query('DELETE FROM account_rollups');
  await sql.query('DELETE FROM settings WHERE key = $1', [HORIZON_KEY]);
}

/** Balances of unlocked accounts, from their rollups and the transfers since; `own` selects id and what to group by. */
const balancesOf = (own: string): string => `
  WITH own AS MATERIALIZED (${own}), fresh AS MATERIALIZED (
    SELECT organization_id, from_account, to_account, amount FROM transfers WHERE txid >= ${HORIZON}
  ), parts AS (
    SELECT o.kind, o.currency, r.balance FROM own o
    JOIN account_rollups r ON r.organization_id = o.organization_id AND r.account_id = o.id
    UNION ALL SELECT o.kind, o.currency, t.amount FROM own o
    JOIN fresh t ON t.organization_id = o.organization_id AND t.to_account = o.id
    UNION ALL SELECT o.kind, o.currency, -t.amount FROM own o
    JOIN fresh t ON t.organization_id = o.organization_id AND t.from_account = o.id
  )
  SELECT kind, currency, sum(balance) AS balance FROM parts GROUP BY kind, currency ORDER BY kind, currency`;

/** What the operator has in one of its own accounts, over all organizations and nodes, in base units. */
export interface Position {
  kind: string;
  currency: string;
  balance: bigint;
}

/**
 * The operator's position: what its exchange has of each currency (less than 0 is what it owes), the fees that it
 * earned, and what waits in suspense.
 */
export async function positions(sql: Sql): Promise<Position[]> {
  const rows = await sql.query<Omit<Position, 'balance'> & { balance: string }>(
    balancesOf(`SELECT organization_id, id, kind, currency FROM accounts
       WHERE kind IN ('exchange', 'processing_fees', 'suspense')`),
    [],
    'positions',
  );
  return rows.map((row) => ({ ...row, balance: BigInt(row.balance) }));
}

/** What the ledger says that a node has, over all organizations; msats. */
export interface NodeBalances {
  channels_msats: bigint;
  chain_msats: bigint;
}

/**
 * What a node should be worth by the ledger. Its accounts are where money comes from and goes to, so what
 * the node has is what they gave: minus their balance. Reads the rollups and the transfers since.
 */
export async function nodeBalances(sql: Sql, node_id: string): Promise<NodeBalances> {
  const rows = await sql.query<{ kind: string; balance: string }>(
    balancesOf(`SELECT organization_id, id, kind, currency FROM accounts
       WHERE node_id = $1 AND kind IN ('channels', 'chain') AND currency = 'btc'`),
    [node_id],
    'node balances',
  );
  const worthOf = (kind: string): bigint => -BigInt(rows.find((row) => row.kind === kind)?.balance ?? '0');
  return { channels_msats: worthOf('channels'), chain_msats: worthOf('chain') };
}
