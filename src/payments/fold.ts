import { allowWholeTables, rowsParameter, sqlState, type Database, type Sql } from '../core/db.ts';
import { AT_REST_SQL, STATUS_SQL } from './states.ts';

// Keeps `payment_counts`: adds up what batches wrote beside their payments (`counts.ts`). One process at a time, in its own
// transaction; payments are never late or locked because of it, and a fold that fails is only made again.

/** Seconds that a row of `payment_counts` covers, each the sum of rows of the one before; 0 is all time. */
export const WIDTHS = [10, 900, 86_400, 0] as const;
const [FINEST] = WIDTHS;
const STEPS = WIDTHS.slice(1).map((parent, index) => [WIDTHS[index] ?? FINEST, parent] as const);
/** Payments at rest from which on a wallet is counted by time, too; where there are fewer they are read instead. */
export const COUNTED_BY_TIME = 2000;
/** Deleted wallets that one fold moves, each with all the slots that it has payments in. */
const MAX_DELETED = 100;

/** Columns that tell one sort of payments of a line or wallet from another. */
export const SORT = 'direction, kind, currency, status';
const COLUMNS = `organization_id, scope_id, scope, width, slot, ${SORT}, count, oldest, newest`;
const INSERT = `INSERT INTO payment_counts AS t (${COLUMNS})`;
const SORT_OF_PAYMENT = `p.direction, p.kind, p.currency, ${STATUS_SQL}`;
/** What is counted of rows `p` of payments, or of their jobs. */
export const COUNT_PAYMENTS = 'count(*), min(p.created_at), max(p.created_at)';
const SUM_COUNTS = 'sum(c.count), min(c.oldest), max(c.newest)';
const slot = (width: string | number, at: string): string =>
  `CASE WHEN ${width} = 0 THEN 'epoch'::timestamptz
     ELSE date_bin(make_interval(secs => ${width}), ${at}, 'epoch'::timestamptz) END`;
const SCOPE_OF_LINE = `CASE WHEN w.inactive_counted THEN 'inactive' ELSE 'line' END`;
const WALLET_OF_PAYMENT = 'wallets w ON w.organization_id = p.organization_id AND w.id = p.wallet_id';

/** Changes that are not folded yet, as rows `c`. Those before the horizon are never looked at, deleted or not. */
export const FRESH = `payment_counts_horizon h JOIN payment_count_changes c
  ON c.txid >= pg_snapshot_xmin(h.snapshot) AND NOT pg_visible_in_snapshot(c.txid, h.snapshot)`;

/** False before the first fold, and in a database restored into a cluster that counts its transactions anew. */
export const HORIZON_STANDS =
  'h.snapshot IS NOT NULL AND pg_snapshot_xmax(h.snapshot) <= pg_snapshot_xmax(pg_current_snapshot())';

/**
 * Adds what came to rest since the last time to the counts. What is folded is exactly what the snapshot of this
 * transaction shows: payments read in it agree with the counts, and a transaction that commits late is folded
 * later, whatever its number. Waits so long for another process that is at it, and answers false if that was not enough.
 */
export async function foldCounts(db: Database, wait_ms: number): Promise<boolean> {
  try {
    await db.transaction(async (sql) => {
      await sql.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
      await sql.query('SET LOCAL statement_timeout = 0');
      await sql.query(`SET LOCAL lock_timeout = ${wait_ms}`);
      // Takes no snapshot yet, so what the fold before has done is seen.
      await sql.query(
        `LOCK TABLE payment_counts_horizon IN SHARE ROW EXCLUSIVE MODE ${wait_ms > 0 ? '' : 'NOWAIT'}`,
      );
      const [horizon] = await sql.query<{ stands: boolean }>(
        `SELECT ${HORIZON_STANDS} AS stands FROM payment_counts_horizon h`,
      );
      if (!horizon?.stands) return countAnew(sql);
      await fold(sql);
    });
    return true;
  } catch (error) {
    if (sqlState(error) === '55P03') return false;
    throw error;
  }
}

/** Rows that one statement answers and the next one takes as its parameter: nothing here looks into them. */
type Rows = readonly object[];

interface Added {
  folded: bigint;
  /** Wallets that now have enough payments to be counted by time. */
  grown: Rows | null;
  /**
   * Cells that payments have left, counted anew: the oldest and the newest there are not known any more. A cell is a sort
   * of payments in one slot of ten seconds, of a line's live or deleted wallets, or of a wallet.
   */
  cells: Rows | null;
  /** Wallets that payments have left, of those that are not counted by time. */
  small: Rows | null;
}

async function fold(sql: Sql): Promise<void> {
  const [added] = await sql.query<Added>(ADD_FRESH, [COUNTED_BY_TIME], 'fold payment counts');
  if (!added) throw new Error('the fold gave no answer');
  if (added.grown)
    await sql.query(`${INSERT} ${OF_WALLETS} AND width > 0 ${BY_SORT}`, [rowsParameter(added.grown)]);
  if (added.small) await countSmallAgain(sql, added.small);
  if (added.cells) await countAgain(sql, added.cells);
  await moveDeleted(sql);
  if (added.folded === 0n) return;
  // What earlier folds left behind: the horizon is where readers begin, so none of them looks at these rows.
  await sql.query(
    `DELETE FROM payment_count_changes
     WHERE txid < (SELECT pg_snapshot_xmin(snapshot) FROM payment_counts_horizon)`,
  );
  await sql.query('UPDATE payment_counts_horizon SET snapshot = pg_current_snapshot()');
}

const EVERY_WIDTH = `unnest('{${WIDTHS.join()}}'::integer[]) AS width`;

// $1: payments from which on a wallet is counted by time.
const ADD_FRESH = `
  WITH fresh AS MATERIALIZED (
    SELECT c.organization_id, c.environment_id, c.line_of_credit_id, c.wallet_id, ${SORT}, c.slot,
      sum(c.count) AS count, min(c.oldest) AS oldest, max(c.newest) AS newest, bool_or(c.count < 0) AS lost
    FROM ${FRESH}
    GROUP BY c.organization_id, c.environment_id, c.line_of_credit_id, c.wallet_id, ${SORT}, c.slot
  ), sizes AS MATERIALIZED (
    SELECT f.organization_id, f.wallet_id, f.more, f.lost, coalesce(s.count, 0) AS before
    FROM (SELECT organization_id, wallet_id, sum(count) AS more, bool_or(lost) AS lost FROM fresh
          GROUP BY organization_id, wallet_id) f
    LEFT JOIN LATERAL (
      SELECT sum(c.count) AS count FROM payment_counts c
      WHERE c.organization_id = f.organization_id AND c.scope_id = f.wallet_id AND c.scope = 'wallet' AND c.width = 0
    ) s ON true
  ), parts AS MATERIALIZED (
    SELECT f.*, f.line_of_credit_id AS scope_id, ${SCOPE_OF_LINE} AS scope, width
    FROM fresh f JOIN wallets w ON w.organization_id = f.organization_id AND w.id = f.wallet_id
    CROSS JOIN ${EVERY_WIDTH}
    UNION ALL
    SELECT f.*, f.wallet_id, 'wallet', width
    FROM fresh f JOIN sizes s USING (organization_id, wallet_id) JOIN ${EVERY_WIDTH} ON width = 0 OR s.before >= $1
  ), added AS (
    ${INSERT}
    SELECT organization_id, scope_id, scope, width, ${slot('width', 'slot')}, ${SORT},
      sum(count), min(oldest), max(newest)
    FROM parts WHERE NOT lost GROUP BY 1, 2, 3, 4, 5, ${SORT}
    ON CONFLICT (organization_id, scope_id, scope, width, slot, ${SORT}) DO UPDATE
    SET count = t.count + excluded.count, oldest = least(t.oldest, excluded.oldest),
      newest = greatest(t.newest, excluded.newest)
  )
  SELECT (SELECT count(*) FROM fresh) AS folded,
    (SELECT json_agg(s) FROM sizes s WHERE before < $1 AND before + more >= $1) AS grown,
    (SELECT json_agg(p) FROM parts p WHERE lost AND width = ${FINEST}) AS cells,
    (SELECT json_agg(s) FROM sizes s WHERE lost AND before < $1) AS small`;

/** Counts of whole wallets ($1) from their payments; what follows says which widths. */
const OF_WALLETS = `
  SELECT p.organization_id, p.wallet_id, 'wallet', width, ${slot('width', 'p.created_at')}, ${SORT_OF_PAYMENT},
    ${COUNT_PAYMENTS}
  FROM json_to_recordset($1) AS r(organization_id uuid, wallet_id uuid)
  JOIN payments p ON p.organization_id = r.organization_id AND p.wallet_id = r.wallet_id
  CROSS JOIN ${EVERY_WIDTH}
  WHERE ${AT_REST_SQL}`;
const BY_SORT = 'GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9';

async function countSmallAgain(sql: Sql, wallets: Rows): Promise<void> {
  const rows = rowsParameter(wallets);
  await sql.query(
    `DELETE FROM payment_counts c USING json_to_recordset($1) AS r(organization_id uuid, wallet_id uuid)
     WHERE c.organization_id = r.organization_id AND c.scope_id = r.wallet_id AND c.scope = 'wallet' AND c.width = 0`,
    [rows],
  );
  await sql.query(`${INSERT} ${OF_WALLETS} AND width = 0 ${BY_SORT}`, [rows]);
}

/** The cells ($1), each once, in slots of a width. */
const cellsBy = (width: number): string => `
  (SELECT DISTINCT organization_id, environment_id, scope, scope_id, ${slot(width, 'slot')} AS slot, ${SORT}
   FROM json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, scope text, scope_id uuid,
     slot timestamptz, direction text, kind text, currency text, status text)) s`;
const SAME_CELL = `c.organization_id = s.organization_id AND c.scope_id = s.scope_id AND c.scope = s.scope
  AND c.direction = s.direction AND c.kind = s.kind AND c.currency = s.currency AND c.status = s.status`;
const IN_SLOT = `p.created_at >= s.slot AND p.created_at < s.slot + make_interval(secs => ${FINEST})
  AND (s.direction, s.kind, s.currency, s.status) = (${SORT_OF_PAYMENT}) AND ${AT_REST_SQL}`;
const COUNT_CELLS = `
  ${INSERT}
  SELECT s.organization_id, s.scope_id, s.scope, ${FINEST}, s.slot, s.direction, s.kind, s.currency, s.status,
    ${COUNT_PAYMENTS}
  FROM ${cellsBy(FINEST)}`;

/** Counts cells anew from their payments, and whatever sums them from its parts. */
async function countAgain(sql: Sql, cells: Rows): Promise<void> {
  const rows = [rowsParameter(cells)];
  const clear = (width: number) =>
    sql.query(
      `DELETE FROM payment_counts c USING ${cellsBy(width)}
       WHERE ${SAME_CELL} AND c.width = ${width} AND c.slot = s.slot`,
      rows,
    );
  await clear(FINEST);
  await sql.query(
    `${COUNT_CELLS} JOIN payments p ON p.organization_id = s.organization_id
       AND p.environment_id = s.environment_id AND p.line_of_credit_id = s.scope_id AND ${IN_SLOT}
     JOIN ${WALLET_OF_PAYMENT} AND s.scope = ${SCOPE_OF_LINE} ${BY_SORT}`,
    rows,
  );
  await sql.query(
    `${COUNT_CELLS} JOIN payments p ON s.scope = 'wallet' AND p.organization_id = s.organization_id
       AND p.wallet_id = s.scope_id AND ${IN_SLOT} ${BY_SORT}`,
    rows,
  );
  for (const [child, parent] of STEPS) {
    await clear(parent);
    const within =
      parent === 0 ? '' : `AND c.slot >= s.slot AND c.slot < s.slot + make_interval(secs => ${parent})`;
    await sql.query(
      `${INSERT}
       SELECT s.organization_id, s.scope_id, s.scope, ${parent}, s.slot, s.direction, s.kind, s.currency, s.status,
         ${SUM_COUNTS}
       FROM ${cellsBy(parent)} JOIN payment_counts c ON ${SAME_CELL} AND c.width = ${child} ${within} ${BY_SORT}`,
      rows,
    );
  }
}

/** Moves the payments of wallets that were deleted from those of live wallets to the others of their line. */
async function moveDeleted(sql: Sql): Promise<void> {
  const wallets = await sql.query(
    `UPDATE wallets SET inactive_counted = true WHERE (organization_id, id) IN (
       SELECT organization_id, id FROM wallets WHERE deleted_at IS NOT NULL AND NOT inactive_counted
       LIMIT ${MAX_DELETED})
     RETURNING organization_id, id AS wallet_id`,
  );
  if (wallets.length === 0) return;
  const cells = await sql.query(
    `SELECT DISTINCT p.organization_id, p.environment_id, scope, p.line_of_credit_id AS scope_id,
       ${slot(FINEST, 'p.created_at')} AS slot, p.direction, p.kind, p.currency, ${STATUS_SQL} AS status
     FROM json_to_recordset($1) AS r(organization_id uuid, wallet_id uuid)
     JOIN payments p ON p.organization_id = r.organization_id AND p.wallet_id = r.wallet_id
     CROSS JOIN unnest('{line,inactive}'::text[]) AS scope
     WHERE ${AT_REST_SQL}`,
    [rowsParameter(wallets)],
  );
  if (cells.length > 0) await countAgain(sql, cells);
}

/** Counts all payments that there are: the first time, and when the horizon means nothing any more. */
async function countAnew(sql: Sql): Promise<void> {
  await allowWholeTables(sql);
  await sql.query('DELETE FROM payment_counts');
  await sql.query('DELETE FROM payment_count_changes');
  await sql.query(
    `UPDATE wallets SET inactive_counted = (deleted_at IS NOT NULL)
     WHERE inactive_counted <> (deleted_at IS NOT NULL)`,
  );
  await sql.query(
    `${INSERT}
     SELECT p.organization_id, p.line_of_credit_id, ${SCOPE_OF_LINE}, ${FINEST}, ${slot(FINEST, 'p.created_at')},
       ${SORT_OF_PAYMENT}, ${COUNT_PAYMENTS}
     FROM payments p JOIN ${WALLET_OF_PAYMENT} WHERE ${AT_REST_SQL} ${BY_SORT}`,
  );
  for (const [child, parent] of STEPS) {
    await sql.query(
      `${INSERT}
       SELECT organization_id, scope_id, scope, ${parent}, ${slot(parent, 'slot')}, ${SORT}, ${SUM_COUNTS}
       FROM payment_counts c WHERE width = ${child} ${BY_SORT}`,
    );
  }
  await sql.query(
    `${INSERT}
     SELECT p.organization_id, p.wallet_id, 'wallet', 0, 'epoch'::timestamptz, ${SORT_OF_PAYMENT}, ${COUNT_PAYMENTS}
     FROM payments p WHERE ${AT_REST_SQL} ${BY_SORT}`,
  );
  const large = await sql.query(
    `SELECT organization_id, scope_id AS wallet_id FROM payment_counts WHERE scope = 'wallet'
     GROUP BY organization_id, scope_id HAVING sum(count) >= ${COUNTED_BY_TIME}`,
  );
  await sql.query(`${INSERT} ${OF_WALLETS} AND width > 0 ${BY_SORT}`, [rowsParameter(large)]);
  await sql.query('UPDATE payment_counts_horizon SET snapshot = pg_current_snapshot()');
}
