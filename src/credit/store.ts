import { insertRows, type Sql } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { MAX_LIMIT } from '../core/money.ts';
import { ensureNodeAccounts } from '../ledger/accounts.ts';
import { LINE_COLUMNS, type LineOfCredit } from '../ledger/lines.ts';

// What only the operator and the slice of lines do with them. What a payment needs of its line (fees, whether it is
// disabled) is copied to its wallets' accounts, which payments lock anyway: none of them ever reads or locks a line.

/** Basis points: processing fees of payments, and how much worse than the market a quote is. */
export type LineRates = Pick<LineOfCredit, 'send_bps' | 'receive_bps' | 'spread_bps'>;

/** A line without rates bears no fees and quotes the market. */
export type NewLine = Omit<LineOfCredit, 'allocated_limit' | 'disabled_at' | keyof LineRates> &
  Partial<LineRates>;

/** Makes a line and its node's accounts, so that the first payment on it finds them. Rejects on an id that exists. */
export async function createLine(sql: Sql, line: NewLine): Promise<void> {
  const { organization_id, id, environment_id, node_id, network, currency, limit } = line;
  const { send_bps = 0, receive_bps = 0, spread_bps = 0 } = line;
  await ensureNodeAccounts(sql, { organization_id, node_id, network, currency });
  const rates = { send_bps, receive_bps, spread_bps };
  const row = { organization_id, id, environment_id, node_id, network, currency, limit, ...rates };
  await insertRows(sql, 'lines_of_credit', [row]);
}

export interface LineChange extends Partial<LineRates> {
  limit?: bigint | undefined;
  /** true disables, false enables (operators only). */
  disabled?: boolean | undefined;
}

/**
 * Changes a locked line and copies its flag and fees to its wallets' accounts in the same transaction: a payment that
 * waits for such an account is judged by the new ones. No wallet comes to the line meanwhile, since that takes its lock.
 * Throws `invalid_line_of_credit_limit` for a limit below what is allocated or above the maximum.
 */
export async function changeLine(sql: Sql, line: LineOfCredit, change: LineChange): Promise<void> {
  const limit = change.limit ?? line.limit;
  // A constraint of the row holds the lower bound as well; here it is told as what it is.
  if (limit > MAX_LIMIT || limit < line.allocated_limit) {
    const detail = `the limit must lie between the allocated ${line.allocated_limit} and ${MAX_LIMIT}`;
    throw new ApiError('invalid_line_of_credit_limit', detail);
  }
  const disabled = change.disabled ?? line.disabled_at !== null;
  const { send_bps = line.send_bps, receive_bps = line.receive_bps, spread_bps = line.spread_bps } = change;
  await sql.query(
    `UPDATE lines_of_credit SET "limit" = $3, updated_at = now(),
       disabled_at = CASE WHEN $4 THEN coalesce(disabled_at, now()) END,
       send_bps = $5, receive_bps = $6, spread_bps = $7
     WHERE organization_id = $1 AND id = $2`,
    [line.organization_id, line.id, limit, disabled, send_bps, receive_bps, spread_bps],
  );
  // The accounts hold no limit of their line and no spread: only wallets that are made, and quotes, ask for those.
  if ([change.disabled, change.send_bps, change.receive_bps].every((value) => value === undefined)) return;
  // In key order, as payments lock accounts: otherwise the two could wait for each other.
  await sql.query(
    `UPDATE accounts a SET line_disabled = $3, line_send_bps = $4, line_receive_bps = $5 FROM (
       SELECT organization_id, id FROM accounts
       WHERE organization_id = $1 AND line_of_credit_id = $2 AND kind = 'wallet' ORDER BY id FOR NO KEY UPDATE
     ) own WHERE a.organization_id = own.organization_id AND a.id = own.id`,
    [line.organization_id, line.id, disabled, send_bps, receive_bps],
  );
}

/** One line of an environment, or null. */
export async function readLine(sql: Sql, scope: EnvironmentRef, id: string): Promise<LineOfCredit | null> {
  const [line] = await sql.query<LineOfCredit>(
    `SELECT ${LINE_COLUMNS} FROM lines_of_credit WHERE organization_id = $1 AND id = $2 AND environment_id = $3`,
    [scope.organization_id, id, scope.environment_id],
    'read line',
  );
  return line ?? null;
}

/** The lines of an environment, newest first. Not in pages: each was made by the operator, or with a first wallet. */
export const readLines = (
  sql: Sql,
  scope: EnvironmentRef,
  filter: { network: string | null; include_disabled: boolean },
): Promise<LineOfCredit[]> =>
  sql.query<LineOfCredit>(
    `SELECT ${LINE_COLUMNS} FROM lines_of_credit
     WHERE organization_id = $1 AND environment_id = $2 AND ($3::text IS NULL OR network = $3)
       AND ($4 OR disabled_at IS NULL)
     ORDER BY created_at DESC, id DESC`,
    [scope.organization_id, scope.environment_id, filter.network, filter.include_disabled],
    'read lines',
  );
