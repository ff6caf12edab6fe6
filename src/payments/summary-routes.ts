import { Type } from 'typebox';
import { createLane } from '../core/batch.ts';
import { routesWith, type Route } from '../core/http.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { uuid } from '../core/schema.ts';
import type { Engine } from './engine.ts';
import { PAYMENT_FILTERS } from './filters.ts';
import { foldCounts } from './fold.ts';
import { summarize, type Bucket, type SummaryQuery } from './summary.ts';

// GET .../payments/summary, of an environment and of a wallet: the same counts (`summary.ts`), grouped two ways.

const ERRORS = { 400: 'ErrorResponse_PaymentBadRequestError', 503: 'ErrorResponse_PaymentError' } as const;
const route = routesWith({ tag: 'Payments', permissions: ['READ', 'WRITE'], errors: ERRORS });
const QUERY = {
  include_inactive: Type.Optional(
    Type.Boolean({ description: 'Also counts payments of deleted wallets and disabled lines of credit' }),
  ),
  ...PAYMENT_FILTERS,
};

// Longer than a fold takes; in the way of a longer one (a large wallet was deleted) the payments are counted instead.
const FOLD_WAIT_MS = 2000;

/** Counts for requests: those that ask the same while others are answered share the next answer. */
function createSummaries({ db, config }: Engine) {
  let folding: Promise<boolean> | null = null;
  // Readers that need a fold at once share one, and its connection.
  const fold = () => (folding ??= foldCounts(db, FOLD_WAIT_MS).finally(() => (folding = null)));
  const count = (query: SummaryQuery) => summarize(db, fold, query);
  const lane = createLane<SummaryQuery, Bucket[]>({
    max_batch: config.max_batch,
    max_queue: config.max_queue,
    concurrency: 2,
    async run(queries) {
      const answers = new Map<string, Promise<Bucket[]>>();
      const asked = queries.map((query) => {
        const key = JSON.stringify(query);
        const answer = answers.get(key) ?? count(query);
        answers.set(key, answer);
        return answer;
      });
      const settled = await Promise.allSettled(asked);
      return settled.map((answer) =>
        answer.status === 'fulfilled'
          ? { ok: true, value: answer.value }
          : { ok: false, error: answer.reason as unknown },
      );
    },
  });
  // By metadata the payments are read: nobody waits for that but who asks.
  return (query: SummaryQuery) => (query.metadata ? count(query) : lane.submit(query));
}

/** The two operations that count payments instead of listing them. */
export const summaryRoutes = (engine: Engine): Route[] => {
  const summary = createSummaries(engine);
  return [
    route({
      method: 'GET',
      path: '/organizations/{organization_id}/environments/{environment_id}/payments/summary',
      operation_id: 'get_payment_summary',
      summary: "Count the environment's payments by line of credit, direction, status, currency and kind",
      params: Type.Object({ organization_id: uuid(), environment_id: uuid() }),
      query: Type.Object({ line_of_credit_id: Type.Optional(uuid()), ...QUERY }),
      success: { status: 200, schema: { $ref: '#/components/schemas/PaymentSummary' } },
      handler: async ({ caller: { organization_id, environment_id }, query }) => {
        const { include_inactive = false, ...filters } = query;
        const scope = { organization_id, environment_id };
        return environmentView(scope, await summary({ ...filters, ...scope, include_inactive }));
      },
    }),
    route({
      method: 'GET',
      path: '/organizations/{organization_id}/wallets/{wallet_id}/payments/summary',
      operation_id: 'get_wallet_payment_summary',
      summary: "Count a wallet's payments by direction, status, currency and kind",
      params: Type.Object({ organization_id: uuid(), wallet_id: uuid() }),
      query: Type.Object(QUERY),
      success: { status: 200, schema: { $ref: '#/components/schemas/PaymentWalletSummary' } },
      handler: async ({ caller: { organization_id, environment_id }, params: { wallet_id }, query }) => {
        const { include_inactive = false, ...filters } = query;
        const scope = { organization_id, environment_id, wallet_id };
        const buckets = await summary({ ...filters, ...scope, include_inactive });
        const line_of_credit_id = buckets[0]?.line_of_credit_id ?? null;
        return { ...scope, line_of_credit_id, ...totals(buckets), buckets: bucketViews(buckets) };
      },
    }),
  ];
};

function environmentView(scope: EnvironmentRef, buckets: readonly Bucket[]) {
  const { organization_id, environment_id } = scope;
  const all = totals(buckets);
  const lines = [...Map.groupBy(buckets, ({ line_of_credit_id }) => line_of_credit_id)];
  const some = buckets.length > 0;
  return {
    ...scope,
    ...all,
    by_organization_id: some ? { [organization_id]: all } : {},
    by_environment_id: some ? { [environment_id]: { organization_id, ...all } } : {},
    by_line_of_credit_id: Object.fromEntries(
      lines.map(([id, own]) => [id, { ...scope, ...totals(own), buckets: bucketViews(own) }]),
    ),
  };
}

/** Times have one format, so their texts sort as they do. */
const totals = (buckets: readonly Bucket[]) => ({
  total_count: buckets.reduce((sum, { count }) => sum + count, 0n),
  oldest_created_at: buckets.map(({ oldest }) => oldest).sort()[0] ?? null,
  newest_created_at:
    buckets
      .map(({ newest }) => newest)
      .sort()
      .at(-1) ?? null,
});

const bucketViews = (buckets: readonly Bucket[]) =>
  buckets
    .map(({ direction, status, currency, kind, count, oldest, newest }) => ({
      direction,
      status,
      currency,
      kind,
      total_count: count,
      oldest_created_at: oldest,
      newest_created_at: newest,
    }))
    .sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
const orderOf = (bucket: { direction: string; currency: string; kind: string; status: string }): string =>
  [bucket.direction, bucket.currency, bucket.kind, bucket.status].join(' ');
