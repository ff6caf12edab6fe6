import { Type, type Static } from 'typebox';
import { bindingOf, readCursor, writeCursor } from '../core/cursor.ts';
import type { Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { stringifyJson } from '../core/json.ts';
import { oneOf, uint32, uuid } from '../core/schema.ts';
import { PAYMENT_FILTERS } from './filters.ts';
import { areMovingOrChecks, statesOf } from './states.ts';
import { refKey, type Payment } from './types.ts';
import { paymentView } from './view.ts';

// GET /payments. A page is ids and row versions from an index, then the rows that were not rendered before; no query here
// may read more of the table than it shows, however many payments there are.

/** Filters and paging of GET /payments. */
export const LIST_QUERY = Type.Object({
  offset: Type.Optional(uint32({ deprecated: true, description: 'Replaced by cursors' })),
  limit: Type.Optional(uint32({ description: 'Default 100; more than 1000 is taken as 1000' })),
  cursor: Type.Optional(
    Type.String({ description: 'next_cursor of the page before, with the same filters and sort' }),
  ),
  pagination: Type.Optional(oneOf(['offset', 'cursor'])),
  wallet_id: Type.Optional(uuid()),
  line_of_credit_id: Type.Optional(uuid()),
  payment_category: Type.Optional(oneOf(['standard', 'treasury'])),
  sort_key: Type.Optional(oneOf(['created_at', 'updated_at'])),
  sort_order: Type.Optional(oneOf(['ASC', 'DESC'])),
  ...PAYMENT_FILTERS,
  check_only: Type.Optional(
    Type.Boolean({ description: 'true: only policy checks; false: none of them (ours)' }),
  ),
});
type ListQuery = Static<typeof LIST_QUERY>;

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;

/** Renders payments to JSON, remembering what it rendered by row version. */
type Renderer = (sql: Sql, rows: readonly RowVersion[], scope: EnvironmentRef) => Promise<string[]>;

interface RowVersion {
  id: string;
  /** xmin: the transaction that wrote this version of the row. */
  version: string;
  sort_value: string;
}

interface Where {
  text: string;
  values: unknown[];
}

function whereOf(scope: EnvironmentRef, query: ListQuery): Where {
  const values: unknown[] = [scope.organization_id, scope.environment_id];
  const terms = ['p.organization_id = $1', 'p.environment_id = $2'];
  const add = (term: (parameter: string) => string, value: unknown): void => {
    if (value === undefined) return;
    values.push(value);
    terms.push(term(`$${values.length}`));
  };
  add((p) => `p.wallet_id = ${p}`, query.wallet_id);
  add((p) => `p.line_of_credit_id = ${p}`, query.line_of_credit_id);
  add((p) => `p.category = ${p}`, query.payment_category);
  add((p) => `p.metadata @> ${p}::jsonb`, query.metadata && JSON.stringify(query.metadata));
  add((p) => `p.state = ANY(${p})`, query.statuses?.flatMap(statesOf));
  add((p) => `p.kind = ${p}`, query.kind);
  add((p) => `p.direction = ${p}`, query.direction);
  add((p) => `p.created_at >= ${p}`, query.start_date);
  add((p) => `p.created_at <= ${p}`, query.end_date);
  // Written out, so that the index of checks is known to serve.
  if (query.check_only !== undefined) terms.push(query.check_only ? 'p.check_only' : 'NOT p.check_only');
  return { text: terms.join(' AND '), values };
}

/** What a cursor is bound to: scope, filters and sort, but not the page size. */
function boundTo(scope: EnvironmentRef, query: ListQuery, sort: { key: string; order: string }): string {
  const { offset: _o, limit: _l, cursor: _c, pagination: _p, metadata, statuses, ...filters } = query;
  const sorted = (pairs: [string, unknown][]) => pairs.sort(([a], [b]) => (a < b ? -1 : 1));
  return bindingOf([
    scope.organization_id,
    scope.environment_id,
    sort,
    sorted(Object.entries({ ...filters, sort_key: sort.key, sort_order: sort.order })),
    metadata ? sorted(Object.entries(metadata)) : null,
    statuses ? [...statuses].sort() : null,
  ]);
}

// A payment was updated when its last event happened, and events are indexed by their time.
const SOURCE = {
  created_at: 'payments p',
  updated_at: `payment_history h JOIN payments p ON p.organization_id = h.organization_id
    AND p.environment_id = h.environment_id AND p.id = h.payment_id AND p.last_position = h.position
    AND h.organization_id = $1 AND h.environment_id = $2`,
};
const ID = { created_at: 'p.id', updated_at: 'h.payment_id' };
const COLUMN = { created_at: 'p.created_at', updated_at: 'h.at' };

// What is under way is few rows among a million: found by its jobs first (OFFSET 0 keeps it so), then sorted.
const MOVING = `SELECT p.*, p.xmin AS xmin FROM jobs j
  JOIN payments p ON p.organization_id = j.organization_id AND p.environment_id = j.environment_id
    AND p.id = j.payment_id
  WHERE j.organization_id = $1 AND j.environment_id = $2 AND j.kind <> 'expire' OFFSET 0`;
// Approved checks rest without a job, in an index of their own: of them no more is read than the page may show.
const withChecks = (where: string, page: string): string =>
  `((${MOVING}) UNION ALL (SELECT p.*, p.xmin AS xmin FROM payments p WHERE p.check_only AND ${where} ${page})) p`;

interface Source {
  from: (where: string, page: string) => string;
  column: string;
  id: string;
  /** Where all that a filter matches is counted. */
  counted: (where: string) => string;
}

/** Where a list reads from, and the columns that it is sorted by. */
function sourceOf(query: ListQuery, key: 'created_at' | 'updated_at'): Source {
  const own = { column: `p.${key}`, id: 'p.id' };
  if (query.check_only === true) return { ...own, from: () => 'payments p', counted: () => 'payments p' };
  if (query.statuses && areMovingOrChecks(query.statuses)) {
    const moving = () => `(${MOVING}) p`;
    if (query.check_only === false) return { ...own, from: moving, counted: moving };
    return { ...own, from: withChecks, counted: (where) => withChecks(where, '') };
  }
  return { from: () => SOURCE[key], column: COLUMN[key], id: ID[key], counted: () => 'payments p' };
}

/** One page of payments as JSON text, in either pagination. Throws `invalid_cursor`. */
export async function listPayments(
  sql: Sql,
  secret: Buffer,
  scope: EnvironmentRef,
  query: ListQuery,
  render: Renderer,
): Promise<string> {
  const limit = Math.min(query.limit ?? DEFAULT_LIMIT, MAX_LIMIT);
  const sort = { key: query.sort_key ?? 'created_at', order: query.sort_order ?? 'DESC' } as const;
  const { from, counted, column, id } = sourceOf(query, sort.key);
  const where = whereOf(scope, query);
  const by_cursor = query.cursor !== undefined || query.pagination === 'cursor';
  const bound_to = boundTo(scope, query, sort);
  const offset = by_cursor ? 0 : (query.offset ?? 0);
  if (query.cursor !== undefined) {
    const position = readCursor(secret, bound_to, query.cursor);
    const compare = sort.order === 'ASC' ? '>' : '<';
    const n = where.values.push(position.value, position.id);
    // The id decides between payments of one time: a page begins right behind the last one of the page before.
    where.text += ` AND (${column}, ${id}) ${compare} ($${n - 1}::timestamptz, $${n}::uuid)`;
  }
  // One more than is shown says whether there is another page.
  const read = limit === 0 ? 0 : limit + 1;
  const sorted = `ORDER BY ${column} ${sort.order}, ${id} ${sort.order}`;
  const rows = await sql.query<RowVersion>(
    `SELECT p.id, p.xmin::text AS version, p.${sort.key} AS sort_value FROM ${from(where.text, `${sorted} LIMIT ${read + offset}`)}
     WHERE ${where.text} ${sorted} LIMIT ${read} OFFSET ${offset}`,
    where.values,
  );
  const shown = rows.slice(0, limit);
  const has_more = rows.length > limit;
  const items = await render(sql, shown, scope);
  const page = (end: object): string =>
    // Items are spliced in as the text that they are.
    `{"items":[${items.join(',')}],${JSON.stringify({ offset, limit, ...end, has_more }).slice(1)}`;
  if (by_cursor) {
    const last = has_more ? shown.at(-1) : undefined;
    const next = last && writeCursor(secret, bound_to, { value: last.sort_value, id: last.id });
    return page({ next_cursor: next ?? null });
  }
  const [count] = await sql.query<{ total: bigint }>(
    `SELECT count(*) AS total FROM ${counted(where.text)} WHERE ${where.text}`,
    where.values,
  );
  return page({ total: Number(count?.total ?? 0n) });
}

// About 1.5 kB each: at most some 30 MB.
const MAX_RENDERED = 20_000;

/**
 * Renders each version of a row once. What is remembered can never be stale: it is looked up by the
 * version that the page's own query has just read.
 */
export function createRenderer(): Renderer {
  const rendered = new Map<string, { version: string; json: string }>();
  return async (sql, rows, scope) => {
    const keyOf = (id: string) => refKey({ ...scope, id });
    const shown = new Map<string, string>();
    for (const { id, version } of rows) {
      const known = rendered.get(keyOf(id));
      if (known?.version === version) shown.set(id, known.json);
    }
    const missing = rows.filter(({ id }) => !shown.has(id));
    if (missing.length > 0) {
      const found = await sql.query<Payment & { version: string }>(
        `SELECT p.*, p.xmin::text AS version FROM payments p
         WHERE p.organization_id = $1 AND p.environment_id = $2 AND p.id = ANY($3)`,
        [scope.organization_id, scope.environment_id, missing.map(({ id }) => id)],
        'render payments',
      );
      for (const { version, ...payment } of found) {
        const json = stringifyJson(paymentView(payment));
        shown.set(payment.id, json);
        // Emptied as a whole: what is asked for again is rendered again, which costs less than keeping an order.
        if (rendered.size >= MAX_RENDERED) rendered.clear();
        rendered.set(keyOf(payment.id), { version, json });
      }
    }
    return rows.flatMap(({ id }) => shown.get(id) ?? []);
  };
}
