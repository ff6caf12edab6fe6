import { insertRows, rowsParameter, type Sql } from '../core/db.ts';
import { openFacts } from './counts.ts';
import { refOf, rowOf, type JobKind, type Payment, type PaymentRef, type SeenOutput } from './types.ts';

// Rows that stand beside a payment: its job, its keys, the outputs to its address, what a human must look at. Each
// statement takes many at once and is run by the batch that has the payments locked (`work.ts`); it decides nothing.

/**
 * Runs a statement that takes rows as its one parameter, unless there are none. Issued at once, as `Transaction.finish`
 * wants it: the commit goes out behind it.
 */
export const withRows = async (
  sql: Sql,
  rows: readonly object[],
  text: string,
  name: string,
): Promise<void> => {
  if (rows.length > 0) await sql.query(text, [rowsParameter(rows)], name);
};

/** Jobs that wait for a time and go to any process when it has come; all others stay with the process that made them. */
const WAITING: ReadonlySet<JobKind> = new Set<JobKind>(['expire', 'exchange']);

/** The next job of a payment, or none; `existed` where it may have one, or had it. */
export interface JobChange {
  payment: Payment;
  kind: JobKind | null;
  run_at: string;
  existed: boolean;
}

const JOB_COLUMNS = `organization_id, environment_id, payment_id, node_id, kind, run_at, worker,
  wallet_id, line_of_credit_id, direction, payment_kind, currency, created_at, status`;

// Another kind of job begins to count its attempts anew; `status` is what the payment is counted under while it is under
// way, so it moves with it.
const CHANGE_JOBS = `
  INSERT INTO jobs (${JOB_COLUMNS}) SELECT ${JOB_COLUMNS} FROM json_populate_recordset(NULL::jobs, $1)
  ON CONFLICT (organization_id, environment_id, payment_id)
  DO UPDATE SET kind = excluded.kind, run_at = excluded.run_at, worker = excluded.worker, status = excluded.status,
    attempts = CASE WHEN jobs.kind = excluded.kind THEN jobs.attempts + 1 ELSE 0 END`;

const END_JOBS = `
  DELETE FROM jobs j USING json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, id uuid)
  WHERE j.organization_id = r.organization_id AND j.environment_id = r.environment_id AND j.payment_id = r.id`;

/** Writes jobs; those that this process keeps carry its number (`worker`). */
export function putJobs(sql: Sql, changes: readonly JobChange[], worker: number): Promise<unknown> {
  const row = ({ payment, kind, run_at }: JobChange) => ({
    ...rowOf(payment),
    node_id: payment.node_id,
    kind,
    run_at,
    worker: kind !== null && WAITING.has(kind) ? null : worker,
    ...openFacts(payment),
  });
  const next = changes.filter(({ kind }) => kind !== null);
  const ended = changes.filter(({ kind, existed }) => existed && kind === null);
  return Promise.all([
    insertRows(sql, 'jobs', next.filter(({ existed }) => !existed).map(row)),
    withRows(sql, next.filter(({ existed }) => existed).map(row), CHANGE_JOBS, 'change jobs'),
    withRows(
      sql,
      ended.map(({ payment }) => refOf(payment)),
      END_JOBS,
      'end jobs',
    ),
  ]);
}

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

/** Gives keys back, those that are still the payment's own: an invoice whose send failed may be paid by the next one. */
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

/** Why a human must look: the money is safe, but no rule can decide. */
export type AttentionKind = 'lost_history' | 'frozen' | 'over_cap' | 'paid_before';

/** A row of `attention`, which puts a payment before a human. */
export const attentionRow = (ref: PaymentRef, kind: AttentionKind, detail: object): object => ({
  ...rowOf(ref),
  kind,
  detail,
});

/** Raises items; one that is open already stays as it is. */
export const raiseAttention = (sql: Sql, rows: readonly object[]): Promise<void> =>
  withRows(
    sql,
    rows,
    `INSERT INTO attention (organization_id, environment_id, payment_id, kind, detail)
     SELECT organization_id, environment_id, payment_id, kind, detail
     FROM json_to_recordset($1)
       AS r(organization_id uuid, environment_id uuid, payment_id uuid, kind text, detail jsonb)
     ON CONFLICT DO NOTHING`,
    'raise attention',
  );
