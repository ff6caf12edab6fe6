import { rowsParameter, type Sql } from '../core/db.ts';

/** Why a human must look: the money is safe, but no rule can decide. */
export type AttentionKind = 'lost_history' | 'frozen' | 'over_cap' | 'paid_before';

/** Raises items; one that is open already stays as it is. */
export async function raiseAttention(sql: Sql, rows: readonly object[]): Promise<void> {
  if (rows.length === 0) return;
  await sql.query(
    `INSERT INTO attention (organization_id, environment_id, payment_id, kind, detail)
     SELECT organization_id, environment_id, payment_id, kind, detail
     FROM json_to_recordset($1)
       AS r(organization_id uuid, environment_id uuid, payment_id uuid, kind text, detail jsonb)
     ON CONFLICT DO NOTHING`,
    [rowsParameter(rows)],
    'raise attention',
  );
}
