import type { Sql } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { MAX_LIMIT } from '../core/money.ts';
import { ensureNodeAccounts } from '../ledger/accounts.ts';

/** One row of `lines_of_credit`; limits in base units of `currency`. */
export interface LineOfCredit {
  organization_id: string;
  id: string;
  environment_id: string;
  node_id: string;
  network: string;
  currency: string;
  limit: bigint;
  allocated_limit: bigint;
  disabled_at: string | null;
}

const COLUMNS =
  'organization_id, id, environment_id, node_id, network, currency, "limit", allocated_limit, disabled_at';

export type NewLine = Omit<LineOfCredit, 'allocated_limit' | 'disabled_at'>;

/** Makes a line and its node's accounts; false when the organization has a line of that id. */
export async function createLine(sql: Sql, line: NewLine): Promise<boolean> {
  const { organization_id, node_id, network, currency } = line;
  await ensureNodeAccounts(sql, { organization_id, node_id, network, currency });
  const made = await sql.query(
    `INSERT INTO lines_of_credit (organization_id, id, environment_id, node_id, network, currency, "limit")
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING id`,
    [organization_id, line.id, line.environment_id, node_id, network, currency, line.limit],
  );
  return made.length > 0;
}

/** Reads a line and locks it: who creates or deletes wallets on it, or changes it, does so one at a time. */
export async function lockLine(sql: Sql, organization_id: string, id: string): Promise<LineOfCredit | null> {
  const [line] = await sql.query<LineOfCredit>(
    `SELECT ${COLUMNS} FROM lines_of_credit WHERE organization_id = $1 AND id = $2 FOR UPDATE`,
    [organization_id, id],
  );
  return line ?? null;
}

export interface LineChange {
  limit?: bigint;
  /** true disables, false enables (operators only). */
  disabled?: boolean;
}

/**
 * Changes a locked line and copies its flag to its wallets' accounts in the same transaction.
 * Throws `invalid_line_of_credit_limit` for a limit below what is allocated or above the maximum.
 */
export async function changeLine(sql: Sql, line: LineOfCredit, change: LineChange): Promise<void> {
  const limit = change.limit ?? line.limit;
  if (limit > MAX_LIMIT || limit < line.allocated_limit) {
    const detail = `the limit must lie between the allocated ${line.allocated_limit} and ${MAX_LIMIT}`;
    throw new ApiError('invalid_line_of_credit_limit', detail);
  }
  const disabled = change.disabled ?? line.disabled_at !== null;
  await sql.query(
    `UPDATE lines_of_credit SET "limit" = $3, updated_at = now(),
       disabled_at = CASE WHEN $4 THEN coalesce(disabled_at, now()) END
     WHERE organization_id = $1 AND id = $2`,
    [line.organization_id, line.id, limit, disabled],
  );
  if (change.disabled === undefined) return;
  await sql.query(
    `UPDATE accounts a SET line_disabled = $3 FROM (
       SELECT organization_id, id FROM accounts
       WHERE organization_id = $1 AND line_of_credit_id = $2 AND kind = 'wallet' ORDER BY id FOR NO KEY UPDATE
     ) own WHERE a.organization_id = own.organization_id AND a.id = own.id`,
    [line.organization_id, line.id, disabled],
  );
}

/** One line of an environment, or null. */
export async function readLine(
  sql: Sql,
  scope: { organization_id: string; environment_id: string },
  id: string,
): Promise<LineOfCredit | null> {
  const [line] = await sql.query<LineOfCredit>(
    `SELECT ${COLUMNS} FROM lines_of_credit WHERE organization_id = $1 AND id = $2 AND environment_id = $3`,
    [scope.organization_id, id, scope.environment_id],
    'read line',
  );
  return line ?? null;
}

/** The lines of an environment, newest first. */
export const readLines = (
  sql: Sql,
  scope: { organization_id: string; environment_id: string },
  filter: { network: string | null; include_disabled: boolean },
): Promise<LineOfCredit[]> =>
  sql.query<LineOfCredit>(
    `SELECT ${COLUMNS} FROM lines_of_credit
     WHERE organization_id = $1 AND environment_id = $2 AND ($3::text IS NULL OR network = $3)
       AND ($4 OR disabled_at IS NULL)
     ORDER BY created_at DESC, id DESC`,
    [scope.organization_id, scope.environment_id, filter.network, filter.include_disabled],
    'read lines',
  );
