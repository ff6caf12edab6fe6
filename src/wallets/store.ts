import { insertRows, rowsParameter, type Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { openWalletAccount } from '../ledger/accounts.ts';
import type { WalletRef } from '../ledger/ledger.ts';
import type { LineOfCredit } from '../ledger/lines.ts';
import type { NewWallet } from './rules.ts';

/** A wallet with its balance and holds as of one instant. Amounts in base units of `currency`. */
export interface WalletRow extends EnvironmentRef {
  id: string;
  line_of_credit_id: string;
  network: string;
  currency: string;
  name: string;
  metadata: Record<string, string> | null;
  limit: bigint;
  total: bigint;
  held: bigint;
  created_at: string;
  updated_at: string;
  deleted_at: string | null;
  balance_at: string;
  /** Amounts and times as PostgreSQL's text: JSON numbers would be rounded. */
  holds: { id: string; amount: string; effective_time: string }[] | null;
}

// Balance and holds by one statement, so of one moment: what is available always adds up.
const READ = `
  SELECT w.organization_id, w.id, w.environment_id, w.line_of_credit_id, w.network, w.name, w.metadata,
    w.created_at, w.updated_at, w.deleted_at,
    a.currency, a."limit", a.total, a.held, a.updated_at AS balance_at, h.holds
  FROM wallets w
  JOIN accounts a ON a.organization_id = w.organization_id AND a.id = w.id
  LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object('id', id, 'amount', amount::text, 'effective_time', effective_time::text)
      ORDER BY effective_time DESC, id) AS holds
    FROM holds WHERE organization_id = w.organization_id AND wallet_id = w.id
  ) h ON true`;

/** Reads many wallets in one round trip; one that does not exist is left out. */
export const readWallets = (sql: Sql, refs: readonly WalletRef[]): Promise<WalletRow[]> =>
  sql.query<WalletRow>(
    `${READ} JOIN json_to_recordset($1) AS r(organization_id uuid, id uuid)
       ON w.organization_id = r.organization_id AND w.id = r.id`,
    [rowsParameter(refs)],
    'read wallets',
  );

/** All wallets of an environment, newest first; `inactive` adds the deleted ones. */
export const listWallets = (sql: Sql, scope: EnvironmentRef & { inactive: boolean }): Promise<WalletRow[]> =>
  sql.query<WalletRow>(
    `${READ} WHERE w.organization_id = $1 AND w.environment_id = $2 AND ($3 OR w.deleted_at IS NULL)
     ORDER BY w.created_at DESC, w.id DESC`,
    [scope.organization_id, scope.environment_id, scope.inactive],
    'list wallets',
  );

/**
 * Makes the line that comes with an environment's first wallet, unless the environment has one on this
 * network by now or the id is taken. Locks the environment, so that two first wallets bring one line.
 */
export async function bringLine(sql: Sql, line: LineOfCredit): Promise<boolean> {
  const { organization_id, id, environment_id, node_id, network, currency, limit } = line;
  await sql.query(
    'SELECT FROM environments WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE',
    [organization_id, environment_id],
    'lock environment',
  );
  // A statement of its own: it sees what another first wallet has committed while this one waited for the lock.
  const made = await sql.query(
    `INSERT INTO lines_of_credit (organization_id, id, environment_id, node_id, network, currency, "limit")
     SELECT $1, $2, $3, $4, $5, $6, $7
     WHERE NOT EXISTS (SELECT FROM lines_of_credit
                       WHERE organization_id = $1 AND environment_id = $3 AND network = $5)
     ON CONFLICT DO NOTHING RETURNING id`,
    [organization_id, id, environment_id, node_id, network, currency, limit],
    'bring line',
  );
  return made.length > 0;
}

/** True when the organization has an account with this id: wallets and accounts share their ids. */
export async function isIdUsed(sql: Sql, ref: WalletRef): Promise<boolean> {
  const rows = await sql.query(
    'SELECT FROM accounts WHERE organization_id = $1 AND id = $2',
    [ref.organization_id, ref.id],
    'wallet id used',
  );
  return rows.length > 0;
}

/** Writes a wallet, its account and its share of the line's limit. The line's row is locked. */
export async function insertWallet(
  sql: Sql,
  wallet: Omit<NewWallet, 'network' | 'line_of_credit_id'>,
  line: Pick<LineOfCredit, 'id' | 'node_id' | 'network' | 'currency' | 'send_bps' | 'receive_bps'>,
  at: string,
): Promise<void> {
  const { organization_id, environment_id, id, name, metadata, limit } = wallet;
  const { node_id, network, currency } = line;
  const common = { organization_id, id, environment_id, line_of_credit_id: line.id, node_id, network };
  const fees = { line_send_bps: line.send_bps, line_receive_bps: line.receive_bps };
  await openWalletAccount(sql, { ...common, ...fees, currency, limit, updated_at: at });
  await insertRows(sql, 'wallets', [{ ...common, name, metadata, created_at: at, updated_at: at }]);
  await allocate(sql, organization_id, line.id, limit);
}

/** Changes a line's share; the table refuses more than the line's limit, whatever was judged before. */
const allocate = (sql: Sql, organization_id: string, line_id: string, amount: bigint): Promise<unknown> =>
  sql.query(
    `UPDATE lines_of_credit SET allocated_limit = allocated_limit + $3, updated_at = now()
     WHERE organization_id = $1 AND id = $2`,
    [organization_id, line_id, amount],
    'allocate limit',
  );

/** Renames a live wallet of an environment; false when there is none with this id. */
export async function renameWallet(
  sql: Sql,
  wallet: EnvironmentRef & { id: string; name: string; at: string },
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE wallets SET name = $4, updated_at = $5
     WHERE organization_id = $1 AND id = $2 AND environment_id = $3 AND deleted_at IS NULL RETURNING id`,
    [wallet.organization_id, wallet.id, wallet.environment_id, wallet.name, wallet.at],
    'rename wallet',
  );
  return rows.length > 0;
}

/** What never changes of a wallet, and whether it is deleted; undefined when the environment has none. */
export async function findWallet(
  sql: Sql,
  wallet: EnvironmentRef & { id: string },
): Promise<Pick<WalletRow, 'line_of_credit_id' | 'deleted_at'> | undefined> {
  const [row] = await sql.query<WalletRow>(
    `SELECT line_of_credit_id, deleted_at FROM wallets
     WHERE organization_id = $1 AND id = $2 AND environment_id = $3`,
    [wallet.organization_id, wallet.id, wallet.environment_id],
    'find wallet',
  );
  return row;
}

/** Whether a receive of the wallet can still be paid. */
export async function hasOpenReceive(sql: Sql, ref: WalletRef): Promise<boolean> {
  // Money that came and waits for a rate; less than a cent waits longer, and keeps no wallet alive. Of the receives the
  // newest come first: what is open was made lately, so a wallet in use is refused after a few rows.
  const rows = await sql.query(
    `(SELECT FROM jobs WHERE organization_id = $1 AND wallet_id = $2 AND kind = 'exchange'
        AND run_at < now() + interval '1 minute' LIMIT 1)
     UNION ALL
     (SELECT FROM payments
      WHERE organization_id = $1 AND wallet_id = $2 AND direction = 'receive' AND state IN ('generating', 'receiving')
      ORDER BY created_at DESC, id DESC LIMIT 1)
     LIMIT 1`,
    [ref.organization_id, ref.id],
    'open receive of wallet',
  );
  return rows.length > 0;
}

/**
 * Marks a wallet as deleted and gives its limit back to the line. Its line and account are locked. Its own
 * limit becomes 0: nothing lends to it any more, and what is credited late is all that it can lose again.
 */
export async function deleteWallet(
  sql: Sql,
  wallet: WalletRef & { line_of_credit_id: string; limit: bigint; at: string },
): Promise<void> {
  const { organization_id, id, at } = wallet;
  await sql.query(
    'UPDATE accounts SET deleted_at = $3, "limit" = 0, updated_at = $3 WHERE organization_id = $1 AND id = $2',
    [organization_id, id, at],
    'delete wallet account',
  );
  await sql.query(
    'UPDATE wallets SET deleted_at = $3, updated_at = $3 WHERE organization_id = $1 AND id = $2',
    [organization_id, id, at],
    'delete wallet',
  );
  await allocate(sql, organization_id, wallet.line_of_credit_id, -wallet.limit);
}
