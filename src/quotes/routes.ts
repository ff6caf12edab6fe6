import { Type } from 'typebox';
import { createLane, type Verdict } from '../core/batch.ts';
import { createTimestamps, timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { requireStaging } from '../core/features.ts';
import { routesWith, type Caller, type Route } from '../core/http.ts';
import { wireAmount } from '../core/money.ts';
import { networkOf } from '../core/networks.ts';
import { formatRate } from '../core/rate.ts';
import { uint32, uuid, wireInteger } from '../core/schema.ts';
import { holdRate, heldRate, type Rates } from './rates.ts';
import { checkQuote, makeQuote, type QuoteBody } from './rules.ts';
import { insertQuotes, listQuotes, readQuote, readQuoteLines } from './store.ts';
import type { LineWithRate, NewQuote, QuoteRow } from './store.ts';
import { parseSandboxRate } from './walk.ts';

// Quotes over HTTP: a rate is promised for a while, and for one payment. Making one touches no money and no wallet; what
// it costs to keep the promise is the operator's, which is why it ends soon and is used once (consume.ts).

export interface QuoteRouteDeps {
  db: Database;
  clock: Clock;
  rates: Rates;
  /** Whether a node is the sandbox. */
  isSandbox(node_id: string): boolean;
  quote_seconds: number;
  max_batch: number;
  max_queue: number;
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;
const environment = { organization_id: uuid(), environment_id: uuid() };
const PATH = '/organizations/{organization_id}/environments/{environment_id}/quotes';
const ERRORS = { 400: 'ErrorResponse_QuotingBadRequestError' } as const;
const route = routesWith({ tag: 'Quotes', params: Type.Object(environment), errors: ERRORS });
const NETWORKS = ['mainnet', 'testnet', 'testnet3', 'signet', 'mutinynet', 'none'];

const Currency = Type.String({ pattern: '^(btc|usd|asset:[a-fA-F0-9]{66})$' });
const NewQuoteRequest = Type.Object({
  id: uuid(),
  line_of_credit_id: uuid(),
  network: Type.String({ enum: NETWORKS }),
  amount: Type.Object({
    currency: Currency,
    amount: wireInteger('int64', { description: 'What is known, in base units: msats or cents' }),
    unit: Type.Optional(Type.String({ description: 'Ignored; derived from the currency' })),
    negative: Type.Optional(Type.Boolean()),
  }),
  to: Currency,
  target_precision: Type.Optional(
    Type.Union([
      Type.Object({ currency: Type.Literal('btc'), precision: Type.String({ enum: ['sats', 'msats'] }) }),
      Type.Object({ currency: Type.Literal('usd'), precision: Type.String({ enum: ['cents'] }) }),
    ]),
  ),
});

function quoteView(quote: QuoteRow): object {
  const { from_currency: from, to_currency: to, rate, quoted_at, expires_at, target_precision } = quote;
  return {
    id: quote.id,
    amount: wireAmount(from, quote.amount),
    to,
    network: quote.network,
    organization_id: quote.organization_id,
    wallet_id: quote.wallet_id,
    target_precision: target_precision === null ? null : { currency: to, precision: target_precision },
    requested_at: quote.requested_at,
    quote: rate === null ? null : { type: 'market_rate', detail: { from, to, rate, quoted_at, expires_at } },
    created_at: quote.created_at,
    consumed_at: quote.consumed_at,
    expires_at,
    failed_at: quote.failed_at,
    error: quote.error,
  };
}

interface Request {
  caller: Caller;
  body: QuoteBody;
}

/**
 * Requests that arrive together read their lines with one statement and are written with another. No line is locked: one
 * that is disabled in between leaves a quote that no payment can use, since its wallets' accounts say so.
 */
function createQuoteLane(deps: QuoteRouteDeps) {
  const time = createTimestamps(deps.clock);
  const judge = ({ caller, body }: Request, line: LineWithRate | null): Verdict<NewQuote> => {
    try {
      checkQuote(body, line, caller.environment_id);
      const market = deps.isSandbox(line.node_id)
        ? deps.rates.sandbox(caller.environment_id, line.held)
        : deps.rates.market();
      const context = { ...caller, at: time(), lifetime_seconds: deps.quote_seconds };
      return { ok: true, value: makeQuote(body, line, market, context) };
    } catch (error) {
      return { ok: false, error };
    }
  };
  return createLane<Request, void>({
    max_batch: deps.max_batch,
    max_queue: deps.max_queue,
    concurrency: 1,
    async run(requests) {
      const lines = await readQuoteLines(
        deps.db,
        requests.map(({ caller, body }) => ({
          organization_id: caller.organization_id,
          environment_id: caller.environment_id,
          line_of_credit_id: body.line_of_credit_id,
        })),
      );
      const verdicts = requests.map((request, index) => judge(request, lines[index] ?? null));
      const made = await insertQuotes(
        deps.db,
        verdicts.flatMap((verdict) => (verdict.ok ? [verdict.value] : [])),
      );
      return verdicts.map((verdict) => {
        if (!verdict.ok) return verdict;
        const { environment_id, id } = verdict.value;
        // Of two with one id in a batch the first is the one that was written.
        if (made.delete(`${environment_id}/${id}`)) return { ok: true, value: undefined };
        const context = { quote_id: id };
        return { ok: false, error: new ApiError('quote_already_exists', `quote ${id} exists`, { context }) };
      });
    },
  });
}

/** The three operations on quotes, and the rate of a sandbox environment. */
export function quoteRoutes(deps: QuoteRouteDeps): Route[] {
  const lane = createQuoteLane(deps);
  return [
    route({
      method: 'POST',
      path: PATH,
      operation_id: 'request_a_quote',
      summary: 'Lock a rate between bitcoin and dollars for one payment',
      permissions: ['RECEIVE', 'WRITE'],
      body: NewQuoteRequest,
      success: { status: 202 },
      errors: { ...ERRORS, 409: 'ErrorResponse_QuotingConflictError' },
      handler: async ({ caller, body }) => {
        if (!caller.features.has('usd')) {
          throw new ApiError('invalid_quote_request', 'the feature usd is not enabled', {
            context: { fields: ['line_of_credit_id'] },
          });
        }
        await lane.submit({ caller, body });
      },
    }),
    route({
      method: 'GET',
      path: PATH,
      operation_id: 'get_quotes_as_user',
      summary: 'List quotes, newest first',
      permissions: ['READ', 'WRITE'],
      query: Type.Object({
        wallet_id: Type.Optional(uuid()),
        network: Type.Optional(Type.String({ enum: NETWORKS })),
        limit: Type.Optional(uint32({ description: 'Default 100; more than 1000 is taken as 1000' })),
        offset: Type.Optional(uint32()),
      }),
      success: { status: 200, schema: { $ref: '#/components/schemas/Quotes' } },
      handler: async ({ caller, query }) => {
        const limit = Math.min(query.limit ?? DEFAULT_LIMIT, MAX_LIMIT);
        const offset = query.offset ?? 0;
        const network = query.network === undefined ? null : networkOf(query.network);
        const wallet_id = query.wallet_id?.toLowerCase() ?? null;
        const { items, total } = await listQuotes(deps.db, caller, { wallet_id, network, limit, offset });
        return { items: items.map(quoteView), offset, limit, total };
      },
    }),
    route({
      method: 'GET',
      path: `${PATH}/{quote_id}`,
      operation_id: 'get_a_quote_as_user',
      summary: 'Read one quote',
      permissions: ['READ', 'WRITE', 'RECEIVE'],
      params: Type.Object({ ...environment, quote_id: uuid() }),
      success: { status: 200, schema: { $ref: '#/components/schemas/QuotingRead' } },
      errors: { ...ERRORS, 404: 'ErrorResponse_QuotingNotFoundError' },
      handler: async ({ caller, params: { quote_id } }) => {
        const quote = await readQuote(deps.db, caller, quote_id);
        if (!quote) throw new ApiError('quote_not_found', `no quote ${quote_id}`, { context: { quote_id } });
        return quoteView(quote);
      },
    }),
    ...sandboxRateRoutes(deps),
  ];
}

const RATE_PATH = '/organizations/{organization_id}/environments/{environment_id}/sandbox/rate';
const RateShown = Type.Object({ rate: Type.String({ format: 'rate' }), held: Type.Boolean() });

/** The sandbox's rate, cents per bitcoin: it walks by itself until it is told to stand still. */
function sandboxRateRoutes({ db, clock, rates }: QuoteRouteDeps): Route[] {
  // Read again after it was set: the answer says what quotes will have, on whichever server.
  async function shown(caller: Caller): Promise<object> {
    const held = await heldRate(db, caller);
    return { rate: formatRate(rates.sandbox(caller.environment_id, held).rate), held: held !== null };
  }
  const common = {
    path: RATE_PATH,
    tag: 'Sandbox',
    permissions: ['WRITE'],
    success: { status: 200, schema: RateShown },
    errors: { 404: 'Envelope' },
  } as const;
  return [
    route({
      ...common,
      method: 'GET',
      operation_id: 'sandbox_get_rate',
      summary: "Read the rate of this environment's sandbox",
      handler: ({ caller }) => {
        requireStaging(caller);
        return shown(caller);
      },
    }),
    route({
      ...common,
      method: 'PUT',
      operation_id: 'sandbox_set_rate',
      summary: "Hold the rate of this environment's sandbox, or let it walk again (null)",
      body: Type.Object({
        rate: Type.Optional(Type.String({ description: '<coefficient>e<scale>, cents per bitcoin' })),
      }),
      handler: async ({ caller, body }) => {
        requireStaging(caller);
        const rate = body.rate === undefined ? null : parseSandboxRate(body.rate);
        if (body.rate !== undefined && !rate) {
          const wanted =
            '<coefficient>e<scale>, above 0, of at most 15 digits and a scale of 12, like 6500000e0';
          throw new ApiError('invalid_data', `rate must be ${wanted}`);
        }
        await holdRate(db, caller, rate, timeText(clock.now()));
        return shown(caller);
      },
    }),
  ];
}
