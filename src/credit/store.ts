import type { Sql } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { MAX_LIMIT } from '../core/money.ts';
import { ensureNodeAccounts } from '../ledger/accounts.ts';

/** One row of `lines_of_credit`; limits in base units of `currency`. */
export interface LineOfCredit extends EnvironmentRef {
  id: string;
  node_id: string;
  network: string;
  currency: string;
  limit: bigint;
  allocated_limit: bigint;
  disabled_at: string | null;
  send_bps: number;
  receive_bps: number;
  spread_bps: number;
}

/** Basis points: processing fees of payments, and how much worse than the market a quote is. */
export type LineRates = Pick<LineOfCredit, 'send_bps' | 'receive_bps' | 'spread_bps'>;

const COLUMNS = `organization_id, id, environment_id, node_id, network, currency, "limit", allocated_limit, disabled_at,
  send_bps, receive_bps, spread_bps`;

/** A line without rates bears no fees and quotes the market. */
export type NewLine = Omit<LineOfCredit, 'allocated_limit' | 'disabled_at' | keyof LineRates> &
  Partial<LineRates>;

/** Makes a line and its node's accounts; false when the organization has a line of that id. */
export async function createLine(sql: Sql, line: NewLine): Promise<boolean> {
  const { organization_id, node_id, network, currency } = line;
  await ensureNodeAccounts(sql, { organization_id, node_id, network, currency });
  const made = await sql.query(
    `INSERT INTO lines_of_credit (organization_id, id, environment_id, node_id, network, currency, "limit",
       send_bps, receive_bps, spread_bps)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING id`,
    [
      organization_id,
      line.id,
      line.environment_id,
      node_id,
      network,
      currency,
      line.limit,
      line.send_bps ?? 0,
      line.receive_bps ?? 0,
      line.spread_bps ?? 0,
    ],
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

export interface LineChange extends Partial<LineRates> {
  limit?: bigint;
  /** true disables, false enables (operators only). */
  disabled?: boolean;
}

/**
 * Changes a locked line and copies its flag and fees to its wallets' accounts in the same transaction.
 * Throws `invalid_line_of_credit_limit` for a limit below what is allocated or above the maximum.
 */
export async function changeLine(sql: Sql, line: LineOfCredit, change: LineChange): Promise<void> {
  const limit = change.limit ?? line.limit;
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
  const { disabled: flag, send_bps: sending, receive_bps: receiving } = change;
  if (flag === undefined && sending === undefined && receiving === undefined) return;
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
    `SELECT ${COLUMNS} FROM lines_of_credit WHERE organization_id = $1 AND id = $2 AND environment_id = $3`,
    [scope.organization_id, id, scope.environment_id],
    'read line',
  );
  return line ?? null;
}

/** The lines of an environment, newest first. */
export const readLines = (
  sql: Sql,
  scope: EnvironmentRef,
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
