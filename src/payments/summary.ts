import type { Database } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import type { PaymentFilters } from './filters.ts';
import { COUNT_PAYMENTS, COUNTED_BY_TIME, FRESH, HORIZON_STANDS, SORT as SORT_OF_ONE } from './fold.ts';
import { cutPeriod, type Cut } from './periods.ts';
import { STATUS_SQL, type Direction } from './states.ts';
import type { Kind } from './types.ts';

// Reads the counts that `fold.ts` keeps (docs/decisions/0015). What it answers is exact as of one instant, and costs the
// same for a thousand payments as for a million; where counts cannot say (metadata, small wallets), few payments are read.

/** Filters of both summaries; `wallet_id` or `line_of_credit_id` narrows what is looked at. */
export interface SummaryQuery extends EnvironmentRef, PaymentFilters {
  wallet_id?: string;
  line_of_credit_id?: string;
  include_inactive: boolean;
}

/** How many payments of one sort a line of credit has, and when the first and the last of them were made. */
export interface Bucket {
  line_of_credit_id: string;
  direction: Direction;
  kind: Kind;
  currency: string;
  status: string;
  count: bigint;
  oldest: string;
  newest: string;
}

// Each fold settles what it finds; more can only come in between.
const MAX_FOLDS = 3;

/**
 * Counts payments, exactly, as of one instant. Reads what is folded and adds what is not. When a payment has left
 * its status since the last fold, or a wallet was deleted, the oldest and the newest do not follow from that: `fold`
 * is called first.
 */
export async function summarize(
  db: Database,
  fold: () => Promise<boolean>,
  query: SummaryQuery,
): Promise<Bucket[]> {
  const { start_date, end_date } = query;
  let by_counts = query.metadata === undefined;
  if (query.wallet_id !== undefined) {
    const size = await sizeOf(db, query);
    if (size === null) return [];
    if (size < COUNTED_BY_TIME && (start_date !== undefined || end_date !== undefined)) by_counts = false;
  }
  if (by_counts) {
    const cut = cutPeriod(start_date, end_date);
    for (let folds = 0; folds <= MAX_FOLDS; folds += 1) {
      const buckets = await readCounts(db, query, cut);
      if (buckets) return buckets;
      if (!(await fold())) break;
    }
  }
  return countPayments(db, query);
}

/** How many payments of a wallet are folded; null for one that the environment does not have, or does not show. */
async function sizeOf(db: Database, query: SummaryQuery): Promise<number | null> {
  const [wallet] = await db.query<{ size: number }>(
    `SELECT (SELECT coalesce(sum(c.count), 0)::float8 FROM payment_counts c
             WHERE c.organization_id = $1 AND c.scope_id = $2 AND c.scope = 'wallet' AND c.width = 0) AS size
     FROM wallets w
     JOIN lines_of_credit l ON l.organization_id = w.organization_id AND l.id = w.line_of_credit_id
     WHERE w.organization_id = $1 AND w.id = $2 AND w.environment_id = $3
       AND ($4 OR (w.deleted_at IS NULL AND l.disabled_at IS NULL))`,
    [query.organization_id, query.wallet_id, query.environment_id, query.include_inactive],
    'size of wallet',
  );
  return wallet?.size ?? null;
}

// $1 organization, $2 environment or wallet, $3 line, $4 statuses, $5 kind, $6 direction: in every statement below.

/** Names what a statement's text depends on, of the query. */
const nameOf = (query: SummaryQuery): string =>
  query.wallet_id !== undefined ? 'wallet' : query.include_inactive ? 'all' : 'active';

/** What is looked at, as a condition on rows `p` that name their line and wallet. */
function scopeOf(query: SummaryQuery): string {
  const line = '($3::uuid IS NULL OR p.line_of_credit_id = $3)';
  if (query.wallet_id !== undefined) return `p.organization_id = $1 AND p.wallet_id = $2 AND ${line}`;
  const all = `p.organization_id = $1 AND p.environment_id = $2 AND ${line}`;
  if (query.include_inactive) return all;
  // Each subquery is hashed once, however many rows are asked about.
  return `${all}
    AND p.line_of_credit_id NOT IN (SELECT id FROM lines_of_credit
      WHERE organization_id = $1 AND environment_id = $2 AND disabled_at IS NOT NULL)
    AND p.wallet_id NOT IN (SELECT id FROM wallets
      WHERE organization_id = $1 AND environment_id = $2 AND deleted_at IS NOT NULL)`;
}

/** The rows of `payment_counts` that are summed: scope and line. */
function scopesOf(query: SummaryQuery): string {
  if (query.wallet_id !== undefined) {
    return `SELECT id AS scope_id, 'wallet' AS scope, line_of_credit_id FROM wallets
      WHERE organization_id = $1 AND id = $2`;
  }
  return `SELECT l.id AS scope_id, s.scope, l.id AS line_of_credit_id
    FROM lines_of_credit l CROSS JOIN unnest('{line${query.include_inactive ? ',inactive' : ''}}'::text[]) AS s (scope)
    WHERE l.organization_id = $1 AND l.environment_id = $2 AND ($3::uuid IS NULL OR l.id = $3)
      ${query.include_inactive ? '' : 'AND l.disabled_at IS NULL'}`;
}

const FILTERS = `($4::text[] IS NULL OR status = ANY($4)) AND ($5::text IS NULL OR kind = $5)
  AND ($6::text IS NULL OR direction = $6)`;
const SORT = `line_of_credit_id, ${SORT_OF_ONE}`;

/**
 * One statement that adds up what is folded, what is not, what is under way, and the payments at the period's ends.
 * Every span and edge is a branch of its own: the planner must not find another way than the index of each.
 */
export function countsStatement(
  query: SummaryQuery,
  cut: Cut,
): { name: string; text: string; values: unknown[] } {
  const values = filtersOf(query);
  const at = (time: string): string => `$${values.push(time)}::timestamptz`;
  const scope = scopeOf(query);
  const whole = { from: at(cut.from), to: at(cut.to) };
  const spans = cut.spans.map(
    ({ width, from, to }) => `
    SELECT s.line_of_credit_id, c.* FROM (${scopesOf(query)}) s CROSS JOIN LATERAL (
      SELECT c.direction, c.kind, c.currency, c.status, c.count, c.oldest, c.newest FROM payment_counts c
      WHERE c.organization_id = $1 AND c.scope_id = s.scope_id AND c.scope = s.scope AND c.width = ${width}
        AND c.slot >= ${at(from)} AND c.slot < ${at(to)} OFFSET 0
    ) c`,
  );
  const edges = cut.edges.map(
    ({ from, before, until }) => `
    SELECT p.line_of_credit_id, p.direction, p.kind, p.currency, ${STATUS_SQL}, ${COUNT_PAYMENTS}
    FROM payments p WHERE ${scope}
      AND p.created_at >= ${at(from)} AND p.created_at < ${at(before)} AND p.created_at <= ${at(until)}
    GROUP BY 1, 2, 3, 4, 5`,
  );
  const moved = `NOT EXISTS (SELECT FROM wallets WHERE organization_id = $1 AND environment_id = $2
    AND deleted_at IS NOT NULL AND NOT inactive_counted)`;
  const text = `
  WITH fresh AS MATERIALIZED (
    SELECT p.* FROM (SELECT c.* FROM ${FRESH}) p WHERE ${scope}
  ), settled AS (
    SELECT ${HORIZON_STANDS} AND NOT EXISTS (SELECT FROM fresh WHERE count < 0)
      ${query.wallet_id !== undefined || query.include_inactive ? '' : `AND ${moved}`} AS settled
    FROM payment_counts_horizon h
  ), parts (${SORT}, count, oldest, newest) AS (
    SELECT ${SORT}, count, oldest, newest FROM fresh WHERE slot >= ${whole.from} AND slot < ${whole.to}
    UNION ALL
    SELECT p.line_of_credit_id, p.direction, p.payment_kind, p.currency, p.status, ${COUNT_PAYMENTS}
    FROM jobs p
    WHERE ${scope} AND p.status IS NOT NULL AND p.created_at >= ${whole.from} AND p.created_at < ${whole.to}
    GROUP BY 1, 2, 3, 4, 5
    ${[...spans, ...edges].map((part) => `UNION ALL ${part}`).join(' ')}
  )
  SELECT t.*, s.settled FROM settled s LEFT JOIN (
    SELECT ${SORT}, sum(count)::bigint AS count, min(oldest) AS oldest, max(newest) AS newest
    FROM parts WHERE ${FILTERS} GROUP BY ${SORT} HAVING sum(count) > 0
  ) t ON true`;
  // Planning it takes longer than running it: prepared by what its text depends on.
  const widths = cut.spans.map(({ width }) => width).join();
  return { name: `count payments, ${nameOf(query)}, ${widths}, ${cut.edges.length} edges`, text, values };
}

const filtersOf = (query: SummaryQuery): unknown[] => [
  query.organization_id,
  query.wallet_id ?? query.environment_id,
  query.line_of_credit_id ?? null,
  query.statuses ?? null,
  query.kind ?? null,
  query.direction ?? null,
];

/** The buckets by the counts; null when something has to be folded first. */
async function readCounts(db: Database, query: SummaryQuery, cut: Cut): Promise<Bucket[] | null> {
  const { name, text, values } = countsStatement(query, cut);
  const rows = await db.query<Bucket & { count: bigint | null; settled: boolean }>(text, values, name);
  if (!rows.every(({ settled }) => settled)) return null;
  return rows.filter(({ count }) => count !== null);
}

/** The buckets by the payments themselves: few of them, or the metadata is asked for. */
function countPayments(db: Database, query: SummaryQuery): Promise<Bucket[]> {
  const values = [...filtersOf(query), query.start_date ?? '-infinity', query.end_date ?? 'infinity'];
  const wanted = query.metadata ? `AND p.metadata @> $${values.push(JSON.stringify(query.metadata))}` : '';
  return db.query<Bucket>(
    `SELECT ${SORT}, count(*) AS count, min(created_at) AS oldest, max(created_at) AS newest FROM (
       SELECT p.line_of_credit_id, p.direction, p.kind, p.currency, ${STATUS_SQL} AS status, p.created_at
       FROM payments p WHERE ${scopeOf(query)} AND p.created_at >= $7 AND p.created_at <= $8 ${wanted}
     ) p WHERE ${FILTERS} GROUP BY ${SORT}`,
    values,
    // How much metadata selects differs with what is asked: that is planned each time.
    query.metadata ? undefined : `count few payments, ${nameOf(query)}`,
  );
}
