import { timeText } from '../core/clock.ts';
import { ApiError } from '../core/errors.ts';
import { MAX_BTC_MSATS, MAX_CENTS, MSATS_PER_SAT, type WireInteger } from '../core/money.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { networkOf } from '../core/networks.ts';
import { centsDown, centsUp, formatRate, msatsUp, withSpread, type Rate } from '../core/rate.ts';
import type { Market } from './rates.ts';
import type { NewQuote } from './store.ts';

// What is quoted, and at which rate. Pure, and judged before the row is written: a quote that no payment could use is
// refused, and its id stays free.

/** A validated body of POST /quotes. */
export interface QuoteBody {
  id: string;
  line_of_credit_id: string;
  network: string;
  amount: { currency: string; amount: WireInteger; negative?: boolean };
  to: string;
  target_precision?: { currency: string; precision: string };
}

/** The line that a quote is on, as its rules need it; null where there is none. */
export interface QuoteLine {
  environment_id: string;
  network: string;
  currency: string;
  disabled_at: string | null;
  spread_bps: number;
}

const MOST: Record<string, bigint> = { btc: MAX_BTC_MSATS, usd: MAX_CENTS };

const invalid = (fields: readonly string[]): ApiError =>
  new ApiError('invalid_quote_request', `not acceptable: ${fields.join(', ')}`, { context: { fields } });

/** Refuses a request that cannot be quoted on its line; throws the contract's refusal. */
export function checkQuote(
  body: QuoteBody,
  line: QuoteLine | null,
  environment_id: string,
): asserts line is QuoteLine {
  const { amount, to } = body;
  const fields: string[] = [];
  const value = BigInt(amount.amount);
  if (value <= 0n || amount.negative === true || value > (MOST[amount.currency] ?? MAX_CENTS))
    fields.push('amount');
  if (to === amount.currency) fields.push('to');
  if (!line || line.environment_id !== environment_id || line.disabled_at !== null)
    fields.push('line_of_credit_id');
  else if (line.network !== networkOf(body.network)) fields.push('network');
  if (fields.length > 0) throw invalid(fields);
  if (line && line.currency !== amount.currency && line.currency !== to) {
    throw new ApiError('mismatch_currency', 'the line is in neither of the two currencies', {
      context: {
        line_of_credit_currency: line.currency,
        source_currency: amount.currency,
        target_currency: to,
      },
    });
  }
  // Nothing but bitcoin and dollars is exchanged here. Said last: the contract has a refusal of its own for a line that is
  // in neither currency, whatever they are.
  if (!MOST[amount.currency]) fields.push('amount');
  if (!MOST[to]) fields.push('to');
  if (fields.length > 0) throw invalid(fields);
  const { target_precision } = body;
  if (target_precision && target_precision.currency !== to) {
    throw new ApiError('mismatch_target_precision', `target_precision.currency must be ${to}`, {
      context: { target_precision, target_currency: to },
    });
  }
}

/** Bitcoin gets dearer for who pays it with dollars, and cheaper for who receives dollars for it. */
const lineRate = (market: Market, line: QuoteLine, to: string): Rate =>
  withSpread(market.rate, line.spread_bps, to === 'usd' ? 'up' : 'down');

/** Refuses amounts that come to nothing, or to more than there can be, on the other side. */
function checkWorth(body: QuoteBody, rate: Rate): void {
  const amount = BigInt(body.amount.amount);
  if (body.to === 'usd') {
    if (centsDown(rate, amount) === 0n || centsUp(rate, amount) > MAX_CENTS) throw invalid(['amount']);
    return;
  }
  const unit = body.target_precision?.precision === 'msats' ? 1n : MSATS_PER_SAT;
  // Rounded up it is never nothing: it must be worth a whole unit before that.
  if (amount < centsUp(rate, unit) || msatsUp(rate, amount) > MAX_BTC_MSATS) throw invalid(['amount']);
}

export interface QuoteContext extends EnvironmentRef {
  /** RFC 3339; never the same twice, so that the list keeps the order of arrival. */
  at: string;
  lifetime_seconds: number;
}

/** The quote at the market's rate, or a failed one where there is none. */
export function makeQuote(
  body: QuoteBody,
  line: QuoteLine,
  market: Market | null,
  context: QuoteContext,
): NewQuote {
  const { at } = context;
  const common = {
    organization_id: context.organization_id,
    environment_id: context.environment_id,
    id: body.id.toLowerCase(),
    line_of_credit_id: body.line_of_credit_id.toLowerCase(),
    network: line.network,
    from_currency: body.amount.currency,
    to_currency: body.to,
    amount: BigInt(body.amount.amount),
    target_precision: body.target_precision?.precision ?? null,
    requested_at: at,
  };
  if (!market) {
    // Written all the same: who asks for it hears that it failed, and not that it was never asked for.
    const detail = 'too few sources of the rate answer';
    const error = { type: 'price', detail, context: { message: detail } };
    return {
      ...common,
      rate: null,
      quoted_at: null,
      created_at: null,
      expires_at: null,
      failed_at: at,
      error,
    };
  }
  const rate = lineRate(market, line, body.to);
  checkWorth(body, rate);
  return {
    ...common,
    rate: formatRate(rate),
    quoted_at: market.quoted_at,
    created_at: at,
    expires_at: timeText(Date.parse(at) + context.lifetime_seconds * 1000),
    failed_at: null,
    error: null,
  };
}
