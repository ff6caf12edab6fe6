import { rowsParameter, type Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import type { QuoteRow } from './store.ts';

// A quote serves one payment: it is locked, judged and marked in the transaction that makes the payment. Two payments that
// name it wait for each other at its row, and the second finds it used; a payment that is rolled back leaves it free.

export type QuoteRef = EnvironmentRef & { id: string };

/** One row of `quotes`, as a payment needs it. */
export type StoredQuote = Omit<QuoteRow, 'requested_at' | 'created_at' | 'failed_at' | 'error' | 'wallet_id'>;

/** What a payment needs of its quote. */
export interface QuoteUse extends Pick<
  QuoteRow,
  'from_currency' | 'to_currency' | 'amount' | 'line_of_credit_id' | 'network'
> {
  /** RFC 3339. */
  at: string;
}

/** A quote that can be used: it has a rate and a time at which that ends. */
export type UsableQuote = StoredQuote & { rate: string; quoted_at: string; expires_at: string };

/** Why a quote cannot serve a payment; null when it can. Times compare as text: all are UTC with microseconds. */
export function faultOf(quote: StoredQuote | undefined, use: QuoteUse): string | null {
  if (!quote) return 'no such quote';
  if (quote.rate === null || quote.expires_at === null) return 'the quote failed';
  if (quote.consumed_at !== null) return 'the quote is used already';
  if (quote.expires_at <= use.at) return 'the quote has expired';
  if (quote.network !== use.network) return `the quote is for ${quote.network}`;
  if (quote.line_of_credit_id !== use.line_of_credit_id) return 'the quote is for another line of credit';
  if (quote.from_currency !== use.from_currency || quote.to_currency !== use.to_currency) {
    return `the quote is from ${quote.from_currency} to ${quote.to_currency}, not from ${use.from_currency} to ${use.to_currency}`;
  }
  if (quote.amount !== use.amount) return `the quote is for ${quote.amount}, not ${use.amount}`;
  return null;
}

// Stryker disable all: SQL, judged by the tests against PostgreSQL.

const REF_COLUMNS = 'organization_id uuid, environment_id uuid, id uuid';

/**
 * Locks and reads quotes in key order, so that two batches wait for each other in one direction only; one that does not
 * exist is left out.
 */
export const lockQuotes = (sql: Sql, refs: readonly QuoteRef[]): Promise<StoredQuote[]> =>
  sql.query<StoredQuote>(
    `SELECT q.organization_id, q.environment_id, q.id, q.line_of_credit_id, q.network, q.from_currency, q.to_currency,
       q.amount, q.target_precision, q.rate, q.quoted_at, q.expires_at, q.consumed_at
     FROM json_to_recordset($1) AS r(${REF_COLUMNS})
     JOIN quotes q ON q.organization_id = r.organization_id AND q.environment_id = r.environment_id AND q.id = r.id
     ORDER BY q.organization_id, q.environment_id, q.id FOR NO KEY UPDATE OF q`,
    [rowsParameter(refs)],
    'lock quotes',
  );

/** Who used a quote, and when (RFC 3339). */
export interface Consumption extends QuoteRef {
  payment_id: string;
  wallet_id: string;
  consumed_at: string;
}

/** Marks locked quotes as used. */
export async function consumeQuotes(sql: Sql, uses: readonly Consumption[]): Promise<void> {
  if (uses.length === 0) return;
  await sql.query(
    `UPDATE quotes q SET consumed_at = r.consumed_at, payment_id = r.payment_id, wallet_id = r.wallet_id
     FROM json_to_recordset($1) AS r(${REF_COLUMNS}, payment_id uuid, wallet_id uuid, consumed_at timestamptz)
     WHERE q.organization_id = r.organization_id AND q.environment_id = r.environment_id AND q.id = r.id`,
    [rowsParameter(uses)],
    'consume quotes',
  );
}
