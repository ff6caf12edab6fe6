import { timeText } from '../core/clock.ts';
import { ApiError } from '../core/errors.ts';
import { readRate } from '../core/rate.ts';
import type { WalletAccount } from '../ledger/ledger.ts';
import { faultOf, type StoredQuote, type UsableQuote } from '../quotes/consume.ts';
import { askBitcoin, askDollars, feeOn } from './amounts.ts';
import type { NewPayment } from './create.ts';
import { checkReceiveDust } from './rules.ts';
import type { Draft, Payment } from './types.ts';

/** What a payment is made with, frozen from then on. */
export type Terms = Pick<
  Payment,
  | 'amount'
  | 'payable'
  | 'requested'
  | 'processing_fee'
  | 'fee_bps'
  | 'quote_id'
  | 'quote'
  | 'expiration'
  | 'expires_at'
>;

/** A request, and what was read for it under lock. */
export interface TermsInput extends Pick<
  NewPayment,
  'draft' | 'wallet' | 'quote_id' | 'endpoint' | 'now_ms'
> {
  account: WalletAccount;
  /** The quote that the request names; undefined when it names none, or there is none of that id. */
  quote: StoredQuote | undefined;
}

const invalidQuote = (detail: string): ApiError => new ApiError('invalid_quote', `quote_id: ${detail}`);

/** The rate in basis points that applies: the wallet's own, else its line's. */
function bpsOf({ account, endpoint, draft }: TermsInput): number {
  if (endpoint === 'treasury') return 0;
  return draft.direction === 'send'
    ? (account.own_send_bps ?? account.line_send_bps)
    : (account.own_receive_bps ?? account.line_receive_bps);
}

/** The quote of a payment from or to dollars; null for bitcoin. Throws `quote_required` and `invalid_quote`. */
function quoteFor(input: TermsInput): UsableQuote | null {
  const { draft, wallet, quote_id, quote, endpoint } = input;
  if (wallet.currency === 'btc') {
    if (quote_id !== null) throw invalidQuote('a bitcoin wallet exchanges nothing');
    return null;
  }
  if (quote_id === null) {
    if (endpoint === 'check') return null;
    const context = { field: 'quote_id', required: true };
    throw new ApiError('quote_required', 'quote_id is required', { code: 'required', context });
  }
  const sending = draft.direction === 'send';
  const fault = faultOf(quote, {
    from_currency: sending ? 'btc' : wallet.currency,
    to_currency: sending ? wallet.currency : 'btc',
    amount: (sending ? draft.amount : draft.requested) ?? 0n,
    line_of_credit_id: wallet.line_of_credit_id,
    network: wallet.network,
    at: timeText(input.now_ms),
  });
  if (fault !== null) throw invalidQuote(fault);
  return quote as UsableQuote;
}

/**
 * Fixes the terms of a payment that is about to be made: quote, processing fee, what a payer pays, how long.
 * Throws `quote_required`, `invalid_quote`, or `invalid_on_chain_payment` for dollars that come to dust.
 */
export function termsOf(input: TermsInput): Terms {
  const { draft, now_ms } = input;
  const quote = quoteFor(input);
  const bps = bpsOf(input);
  const common = {
    quote_id: quote?.id ?? null,
    quote: quote && {
      from: quote.from_currency,
      to: quote.to_currency,
      rate: quote.rate,
      quoted_at: quote.quoted_at,
      expires_at: quote.expires_at,
    },
    requested: draft.requested,
    fee_bps: bps,
    ...lifetime(draft, quote, now_ms),
  };
  if (draft.direction === 'send') {
    return { ...common, amount: draft.amount, payable: null, processing_fee: feeOn(draft.amount ?? 0n, bps) };
  }
  if (quote) {
    const precision = quote.target_precision === 'msats' && draft.kind === 'bolt11' ? 'msats' : 'sats';
    const asked = askDollars(draft.requested ?? 0n, bps, readRate(quote.rate), precision);
    if (draft.kind === 'onchain') checkReceiveDust(asked.payable);
    return { ...common, ...asked };
  }
  // Any amount: whoever pays chooses it, and no fee can be put on top (payments.md section 8).
  if (draft.amount === null) return { ...common, amount: null, payable: null, processing_fee: 0n };
  return { ...common, ...askBitcoin(draft.amount, bps, draft.kind) };
}

/** How long a receive can be paid: not longer than its quote holds. */
function lifetime(
  { expiration }: Draft,
  quote: UsableQuote | null,
  now_ms: number,
): Pick<Terms, 'expiration' | 'expires_at'> {
  if (expiration === null) return { expiration: null, expires_at: null };
  const left = quote ? Math.floor((Date.parse(quote.expires_at) - now_ms) / 1000) : expiration;
  if (left < 1) throw invalidQuote('the quote has expired');
  const seconds = Math.min(expiration, left);
  return { expiration: seconds, expires_at: timeText(now_ms + seconds * 1000) };
}
