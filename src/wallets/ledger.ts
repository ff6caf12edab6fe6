import type { Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';

// A wallet's ledger as it is shown. Events never change; only the payment that one belongs to is read as it is now.

/** One event of a wallet's ledger, with what the payment behind it says of its route. */
export interface LedgerRow {
  type: 'held' | 'captured' | 'released' | 'credited' | 'deposited' | 'withdrawn';
  event_id: string;
  payment_id: string | null;
  currency: string;
  amount: bigint;
  network_fee: bigint;
  processing_fee: bigint;
  /** Of the payment's processing fee; null where there is no payment. */
  fee_bps: number | null;
  effective_time: string;
  payment_kind: string | null;
  receipt_type: string | null;
}

export interface LedgerQuery extends EnvironmentRef {
  wallet_id: string;
  payment_id?: string | undefined;
  /** RFC 3339, both inclusive. */
  start_date?: string | undefined;
  end_date?: string | undefined;
  sort_order: 'ASC' | 'DESC';
  offset: number;
  limit: number;
}

/**
 * One page of a wallet's ledger and the exact number of events that its filters match; null when the
 * environment has no such wallet.
 */
export async function readLedger(
  sql: Sql,
  query: LedgerQuery,
): Promise<{ events: LedgerRow[]; total: bigint } | null> {
  const values: unknown[] = [query.organization_id, query.wallet_id, query.environment_id];
  const terms = ['organization_id = $1', 'wallet_id = $2'];
  // There are few combinations of filters, so each is a prepared statement with a name of its own.
  let shape: string = query.sort_order;
  const add = (mark: string, term: string, value: unknown): void => {
    if (value === undefined) return;
    values.push(value);
    terms.push(`${term} $${values.length}`);
    shape += ` ${mark}`;
  };
  add('payment', 'payment_id =', query.payment_id);
  add('from', 'effective_time >=', query.start_date);
  add('until', 'effective_time <=', query.end_date);
  const where = terms.join(' AND ');
  const { sort_order, limit } = query;
  const page = `SELECT e.type, e.event_id, e.payment_id, e.currency, e.amount, e.network_fee, e.processing_fee,
       e.effective_time, p.kind AS payment_kind, p.fee_bps,
       (SELECT receipt->>'type' FROM jsonb_array_elements(p.receipts) receipt
        WHERE receipt->>'ledger_id' = e.event_id::text LIMIT 1) AS receipt_type
     FROM (SELECT * FROM ledger_events WHERE ${where}
           ORDER BY effective_time ${sort_order}, seq ${sort_order} LIMIT $${values.length + 1} OFFSET $${values.length + 2}) e
     LEFT JOIN payments p ON e.type IN ('captured', 'credited') AND p.organization_id = e.organization_id
       AND p.environment_id = $3 AND p.id = e.payment_id
     ORDER BY e.effective_time ${sort_order}, e.seq ${sort_order}`;
  // Two statements, two snapshots: an event that commits between them may be in one only. Neither shows half of a step.
  const [[wallet], events] = await Promise.all([
    sql.query<{ total: bigint }>(
      `SELECT (SELECT count(*) FROM ledger_events WHERE ${where}) AS total
       FROM wallets WHERE organization_id = $1 AND id = $2 AND environment_id = $3`,
      values,
      `ledger total ${shape}`,
    ),
    limit === 0 ? [] : sql.query<LedgerRow>(page, [...values, limit, query.offset], `ledger page ${shape}`),
  ]);
  return wallet ? { events, total: wallet.total } : null;
}
