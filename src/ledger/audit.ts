import { allowWholeTables, type Database, type Sql } from '../core/db.ts';
import { LEDGER, type Check } from './audit-ledger.ts';
import { PAYMENTS } from './audit-payments.ts';

// Holds what is stored against itself, by the operator's word and in every test. It mends nothing: what it finds is a
// bug, or somebody who wrote by hand.

/** The verdict of one check. */
export interface AuditRow {
  check: string;
  ok: boolean;
  /** How many things it looked at, and how many of them break it. */
  checked: bigint;
  faulty: bigint;
  /** A few of those, each as JSON text. */
  faults: string[];
}

const MAX_SHOWN = 5;

/**
 * Recomputes every balance from the entries and checks every invariant of ledger and payments, on one
 * snapshot of the whole database. Changes nothing and locks nothing.
 */
export async function runAudit(db: Database): Promise<AuditRow[]> {
  return db.transaction(async (sql) => {
    await sql.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    return auditOn(sql);
  });
}

/** The same inside a transaction of the caller, who sees to it that nothing changes meanwhile. */
export async function auditOn(sql: Sql): Promise<AuditRow[]> {
  // It reads everything there is: neither the time nor the memory of a request is enough for that.
  await sql.query(`SET LOCAL statement_timeout = 0; SET LOCAL work_mem = '128MB'`);
  // One core is enough: payments go on meanwhile.
  await sql.query('SET LOCAL max_parallel_workers_per_gather = 0');
  await allowWholeTables(sql);
  const rows: AuditRow[] = [];
  for (const check of [...LEDGER, ...PAYMENTS]) rows.push(await runCheck(sql, check));
  return rows;
}

async function runCheck(sql: Sql, { name, subject }: Check): Promise<AuditRow> {
  const [count] = await sql.query<{ checked: bigint; faulty: bigint }>(
    `SELECT count(*) AS checked, count(*) FILTER (WHERE ok IS NOT TRUE) AS faulty FROM (${subject}) s`,
  );
  if (!count) throw new Error(`audit check "${name}" gave no answer`);
  const { checked, faulty } = count;
  if (faulty === 0n) return { check: name, ok: true, checked, faulty, faults: [] };
  const shown = await sql.query<{ fault: string }>(
    `SELECT (to_jsonb(s) - 'ok')::text AS fault FROM (${subject}) s WHERE ok IS NOT TRUE LIMIT ${MAX_SHOWN}`,
  );
  return { check: name, ok: false, checked, faulty, faults: shown.map(({ fault }) => fault) };
}
