import type { Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';

// A line lends to wallets and says which node serves them. Its own slice changes it, that of wallets makes and deletes
// wallets on it: both do so under the lock of its row, which is why it stands where both find it.

/** One row of `lines_of_credit`; limits in base units of `currency`, fees and spread in basis points. */
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

/** The columns of a `LineOfCredit`. */
export const LINE_COLUMNS = `organization_id, id, environment_id, node_id, network, currency, "limit", allocated_limit,
  disabled_at, send_bps, receive_bps, spread_bps`;

/**
 * Reads a line and locks it, so that whoever makes or deletes wallets on it, or changes it, does so one at a time; null
 * where the organization, or the environment if one is given, has none with this id. Quotes and wallets only refer to
 * it: their foreign keys do not wait for this lock.
 */
export async function lockLine(
  sql: Sql,
  organization_id: string,
  id: string,
  environment_id: string | null = null,
): Promise<LineOfCredit | null> {
  const [line] = await sql.query<LineOfCredit>(
    `SELECT ${LINE_COLUMNS} FROM lines_of_credit
     WHERE organization_id = $1 AND id = $2 AND environment_id = coalesce($3, environment_id) FOR NO KEY UPDATE`,
    [organization_id, id, environment_id],
    'lock line',
  );
  return line ?? null;
}
