import { bigintToText, type Sql } from '../core/db.ts';

/** Writes what an operator did, in the transaction that does it. */
export async function trail(
  sql: Sql,
  action: string,
  organization_id: string | null,
  detail: Record<string, unknown>,
): Promise<void> {
  // Who typed: sudo runs it as somebody else.
  const actor = process.env['SUDO_USER'] ?? process.env['USER'] ?? 'operator';
  await sql.query('INSERT INTO audit_log (organization_id, actor, action, detail) VALUES ($1, $2, $3, $4)', [
    organization_id,
    actor,
    action,
    JSON.stringify(detail, bigintToText),
  ]);
}
