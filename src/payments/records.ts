import { rowsParameter, type Sql } from '../core/db.ts';
import type { PaymentRef, SeenOutput } from './types.ts';

// Rows that stand beside a payment: its job, its keys, the outputs to its address. Each takes many at once.

/** Runs a statement that takes rows as its one parameter, unless there are none. */
const withRows = async (sql: Sql, rows: readonly object[], text: string, name: string): Promise<void> => {
  if (rows.length > 0) await sql.query(text, [rowsParameter(rows)], name);
};

const JOB_COLUMNS = `organization_id, environment_id, payment_id, node_id, kind, run_at, worker,
  wallet_id, line_of_credit_id, direction, payment_kind, currency, created_at, status`;

/** Replaces the jobs of payments that had one, or had lost it. */
export const changeJobs = (sql: Sql, rows: readonly object[]): Promise<void> =>
  withRows(
    sql,
    rows,
    `INSERT INTO jobs (${JOB_COLUMNS}) SELECT ${JOB_COLUMNS} FROM json_populate_recordset(NULL::jobs, $1)
     ON CONFLICT (organization_id, environment_id, payment_id)
     DO UPDATE SET kind = excluded.kind, run_at = excluded.run_at, worker = excluded.worker,
       status = excluded.status,
       attempts = CASE WHEN jobs.kind = excluded.kind THEN jobs.attempts + 1 ELSE 0 END`,
    'change jobs',
  );

export const endJobs = (sql: Sql, payments: readonly PaymentRef[]): Promise<void> =>
  withRows(
    sql,
    payments.map(({ organization_id, environment_id, id }) => ({ organization_id, environment_id, id })),
    `DELETE FROM jobs j USING json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, id uuid)
     WHERE j.organization_id = r.organization_id AND j.environment_id = r.environment_id AND j.payment_id = r.id`,
    'end jobs',
  );

interface Key {
  key: string;
  kind: string;
  node_id: string;
}

/** Takes keys that are free; answers those that it took. Sorted, so that two takers wait in one direction. */
export const claimKeys = (sql: Sql, rows: readonly object[]): Promise<Key[]> =>
  sql.query<Key>(
    `INSERT INTO payment_keys (node_id, kind, key, organization_id, environment_id, payment_id, settle_index)
     SELECT node_id, kind, key, organization_id, environment_id, payment_id, settle_index
     FROM json_populate_recordset(NULL::payment_keys, $1) ORDER BY key, kind, node_id
     ON CONFLICT (key, kind, node_id) DO NOTHING RETURNING key, kind, node_id`,
    [rowsParameter(rows)],
    'claim keys',
  );

/** Gives keys back, those that are still the payment's own. */
export const dropKeys = (sql: Sql, claims: readonly (Key & { id: string })[]): Promise<void> =>
  withRows(
    sql,
    claims,
    `DELETE FROM payment_keys k USING json_to_recordset($1) AS r(key text, kind text, node_id text, id uuid)
     WHERE k.key = r.key AND k.kind = r.kind AND k.node_id = r.node_id AND k.payment_id = r.id`,
    'drop keys',
  );

export const putOutputs = (sql: Sql, outputs: readonly SeenOutput[]): Promise<void> =>
  withRows(
    sql,
    outputs,
    `INSERT INTO chain_outputs SELECT * FROM json_populate_recordset(NULL::chain_outputs, $1)
     ON CONFLICT (organization_id, environment_id, payment_id, tx_id, vout)
     DO UPDATE SET height = excluded.height, state = excluded.state`,
    'put outputs',
  );

export const forgetOutputs = (sql: Sql, outputs: readonly SeenOutput[]): Promise<void> =>
  withRows(
    sql,
    outputs,
    `DELETE FROM chain_outputs o USING json_to_recordset($1)
       AS r(organization_id uuid, environment_id uuid, payment_id uuid, tx_id text, vout integer)
     WHERE o.organization_id = r.organization_id AND o.environment_id = r.environment_id
       AND o.payment_id = r.payment_id AND o.tx_id = r.tx_id AND o.vout = r.vout`,
    'forget outputs',
  );
