import { timeText, type Clock } from '../core/clock.ts';
import { rowsParameter, type Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import type { QuoteLine } from './rules.ts';

/** One row of `quotes`; amount in base units of `from_currency`, times RFC 3339. */
export interface QuoteRow extends EnvironmentRef {
  id: string;
  line_of_credit_id: string;
  network: string;
  from_currency: string;
  to_currency: string;
  amount: bigint;
  target_precision: string | null;
  requested_at: string;
  /** Null when it failed. */
  rate: string | null;
  quoted_at: string | null;
  created_at: string | null;
  expires_at: string | null;
  failed_at: string | null;
  error: object | null;
  consumed_at: string | null;
  wallet_id: string | null;
}

export type NewQuote = Omit<QuoteRow, 'consumed_at' | 'wallet_id'>;

export interface LineRef extends EnvironmentRef {
  line_of_credit_id: string;
}

/** A line, the node that it is on, and what its sandbox environment holds for a rate. */
export interface LineWithRate extends QuoteLine {
  node_id: string;
  held: string | null;
}

/**
 * The lines of a batch of requests, in its order; null for one that the organization does not have. A line of another
 * environment is read, too: the rules refuse it like one that is not there.
 */
export async function readQuoteLines(sql: Sql, refs: readonly LineRef[]): Promise<(LineWithRate | null)[]> {
  const rows = await sql.query<LineWithRate & { n: number }>(
    `SELECT r.n, l.environment_id, l.network, l.currency, l.disabled_at, l.spread_bps, l.node_id, s.rate AS held
     FROM json_to_recordset($1) AS r(n integer, organization_id uuid, environment_id uuid, line_of_credit_id uuid)
     JOIN lines_of_credit l ON l.organization_id = r.organization_id AND l.id = r.line_of_credit_id
     LEFT JOIN sandbox_rates s ON s.organization_id = r.organization_id AND s.environment_id = r.environment_id`,
    [rowsParameter(refs.map((ref, n) => ({ ...ref, n })))],
    'lines of quotes',
  );
  const byPlace = new Map(rows.map(({ n, ...line }) => [n, line]));
  return refs.map((_ref, n) => byPlace.get(n) ?? null);
}

const NEW_COLUMNS = `organization_id, environment_id, id, line_of_credit_id, network, from_currency, to_currency, amount,
  target_precision, requested_at, rate, quoted_at, created_at, expires_at, failed_at, error`;
const COLUMNS = `${NEW_COLUMNS}, consumed_at, wallet_id`;

/** Stores quotes in key order, so that two batches wait for each other in one direction only, and answers the ids that were free. */
export async function insertQuotes(sql: Sql, quotes: readonly NewQuote[]): Promise<Set<string>> {
  if (quotes.length === 0) return new Set();
  const made = await sql.query<{ environment_id: string; id: string }>(
    `INSERT INTO quotes (${NEW_COLUMNS}) SELECT ${NEW_COLUMNS}
     FROM json_populate_recordset(NULL::quotes, $1) ORDER BY organization_id, environment_id, id
     ON CONFLICT DO NOTHING RETURNING environment_id, id`,
    [rowsParameter(quotes)],
    'insert quotes',
  );
  return new Set(made.map(({ environment_id, id }) => `${environment_id}/${id}`));
}

/** One quote of an environment, or null. */
export async function readQuote(sql: Sql, scope: EnvironmentRef, id: string): Promise<QuoteRow | null> {
  const [quote] = await sql.query<QuoteRow>(
    `SELECT ${COLUMNS} FROM quotes WHERE organization_id = $1 AND environment_id = $2 AND id = $3`,
    [scope.organization_id, scope.environment_id, id],
    'read quote',
  );
  return quote ?? null;
}

export interface QuotePage {
  wallet_id: string | null;
  network: string | null;
  limit: number;
  offset: number;
}

/**
 * A page of an environment's quotes, newest first, with how many there are. Only conditions that are asked for are
 * written: with a parameter that may be null no index would answer them. Each shape is prepared under its own name.
 */
export async function listQuotes(
  sql: Sql,
  scope: EnvironmentRef,
  page: QuotePage,
): Promise<{ items: QuoteRow[]; total: bigint }> {
  const values: unknown[] = [scope.organization_id, scope.environment_id];
  let where = 'organization_id = $1 AND environment_id = $2';
  if (page.wallet_id !== null) where += ` AND wallet_id = $${values.push(page.wallet_id)}`;
  if (page.network !== null) where += ` AND network = $${values.push(page.network)}`;
  const shape = `${page.wallet_id === null ? '' : 'w'}${page.network === null ? '' : 'n'}`;
  const next = values.length + 1;
  const [items, [count]] = await Promise.all([
    sql.query<QuoteRow>(
      `SELECT ${COLUMNS} FROM quotes WHERE ${where} ORDER BY requested_at DESC, id DESC LIMIT $${next} OFFSET $${next + 1}`,
      [...values, page.limit, page.offset],
      `list quotes ${shape}`,
    ),
    sql.query<{ total: bigint }>(
      `SELECT count(*) AS total FROM quotes WHERE ${where}`,
      values,
      `count quotes ${shape}`,
    ),
  ]);
  return { items, total: count?.total ?? 0n };
}

/** A quote that nobody used is of interest for a while: who asks why a payment was refused still finds it. */
const UNUSED_MS = 30 * 24 * 3_600_000;
const SWEEP_STEP = 1000;
// What is left is taken by the next sweep, a minute later.
const MAX_SWEEP_STEPS = 50;

/** Removes quotes that nobody used, step by step. One that a payment locks just now is skipped: it is being used. */
export async function sweepQuotes(sql: Sql, clock: Clock): Promise<void> {
  const before = timeText(clock.now() - UNUSED_MS);
  for (let step = 0; step < MAX_SWEEP_STEPS; step += 1) {
    const gone = await sql.query(
      `DELETE FROM quotes q USING (
         SELECT organization_id, environment_id, id FROM quotes
         WHERE consumed_at IS NULL AND requested_at < $1 ORDER BY requested_at LIMIT $2 FOR UPDATE SKIP LOCKED
       ) old
       WHERE q.organization_id = old.organization_id AND q.environment_id = old.environment_id AND q.id = old.id
       RETURNING q.id`,
      [before, SWEEP_STEP],
      'sweep quotes',
    );
    if (gone.length < SWEEP_STEP) return;
  }
}
