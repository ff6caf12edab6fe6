import { randomUUID } from 'node:crypto';
import { timeText } from '../core/clock.ts';
import { insertRows, rowsParameter, type Row, type Sql } from '../core/db.ts';
import type { Invoice, LightningNode, PayRequest, SendFailure, SendOutcome } from './node.ts';
import { createInvoiceMaker, derive, together, type Sandbox } from './sandbox-keys.ts';

// Sends from the sandbox node to invoices of a helpful outside node, which treats each payment as its invoice was made to:
// with `stuck` and `unknown` a client can see, and a test can check, what a real network does once in a thousand times.

/** How the outside node treats a payment to one of its invoices. */
export type Behavior = 'settle' | 'fail' | 'stuck' | 'unknown';

export interface OutsideInvoice {
  amount_msats: bigint | null;
  description: string;
  expiry_seconds: number;
  behavior: Behavior;
  failure_code: SendFailure;
  fee_msats: bigint;
  delay_ms: number;
}

interface OutsideRow extends Omit<OutsideInvoice, 'description' | 'expiry_seconds'> {
  payment_hash: string;
  preimage: string;
  expires_at: string;
}

interface PaymentRow {
  payment_hash: string;
  preimage: string;
  fee_msats: bigint;
  state: 'in_flight' | 'settled' | 'failed';
  failure_code: SendFailure | null;
}

/** A payment whose answer never comes is settled by the outside node all the same, this long after. */
const UNKNOWN_SETTLES_AFTER_MS = 10_000;
const DUE_LIMIT = 500;

const outcomeOf = (row: PaymentRow): SendOutcome => {
  if (row.state === 'settled') return { state: 'settled', preimage: row.preimage, fee_msats: row.fee_msats };
  if (row.state === 'in_flight') return { state: 'in_flight' };
  return failed(row.failure_code ?? 'no_route');
};

const failed = (code: SendFailure): SendOutcome => ({
  state: 'failed',
  code,
  detail: `the sandbox network answered ${code}`,
});

type Plan = { fail: SendFailure } | { row: Row & { payment_hash: string }; silent: boolean };

/** What the outside node does with a payment: pure. */
function plan(request: PayRequest, invoice: OutsideRow | undefined, now_ms: number): Plan {
  if (!invoice) return { fail: 'no_route' };
  if (Date.parse(invoice.expires_at) <= now_ms) return { fail: 'invalid_bolt11_invoice' };
  if (invoice.amount_msats !== null && invoice.amount_msats !== request.amount_msats) {
    return { fail: 'invalid_payment_amount' };
  }
  // A route one msat above the cap is no route.
  const affordable = invoice.fee_msats <= request.max_fee_msats;
  const behavior = affordable ? invoice.behavior : 'fail';
  const failure_code = affordable ? invoice.failure_code : 'no_route';
  const ends_as = { settle: 'settled', fail: 'failed', stuck: null, unknown: 'settled' }[behavior];
  const silent = behavior === 'unknown';
  const wait_ms = silent && invoice.delay_ms === 0 ? UNKNOWN_SETTLES_AFTER_MS : invoice.delay_ms;
  const waits = ends_as === null || wait_ms > 0;
  return {
    silent,
    row: {
      payment_hash: request.payment_hash,
      preimage: invoice.preimage,
      amount_msats: request.amount_msats,
      fee_msats: invoice.fee_msats,
      state: waits ? 'in_flight' : ends_as,
      ends_as,
      failure_code: ends_as === 'failed' ? failure_code : null,
      due_at: waits && ends_as !== null ? timeText(now_ms + wait_ms) : null,
    },
  };
}

// Rows are written in one order, so that two batches with the same hashes wait for each other in one direction only.
// The node refuses a second payment of one hash that is in flight or was made; a failed one may be tried again.
const INSERT_PAYMENTS = `
  INSERT INTO sandbox_payments AS p
    (payment_hash, payment_index, preimage, amount_msats, fee_msats, state, ends_as, failure_code, due_at)
  SELECT payment_hash, nextval('sandbox_payment_index'), preimage, amount_msats, fee_msats, state, ends_as,
    failure_code, due_at
  FROM json_populate_recordset(NULL::sandbox_payments, $1) ORDER BY payment_hash
  ON CONFLICT (payment_hash) DO UPDATE SET payment_index = excluded.payment_index, fee_msats = excluded.fee_msats,
    amount_msats = excluded.amount_msats, state = excluded.state, ends_as = excluded.ends_as,
    failure_code = excluded.failure_code, due_at = excluded.due_at
  WHERE p.state = 'failed'`;

const READ_OUTSIDE = 'SELECT * FROM sandbox_outside_invoices WHERE payment_hash = ANY($1)';

async function payBatch({ db, clock }: Sandbox, requests: readonly PayRequest[]): Promise<SendOutcome[]> {
  const hashes = requests.map(({ payment_hash }) => payment_hash);
  const now_ms = clock.now();
  return db.transaction(async (sql) => {
    const found = await sql.query<OutsideRow>(READ_OUTSIDE, [hashes], 'outside invoices');
    const invoices = new Map(found.map((row) => [row.payment_hash, row]));
    const plans = requests.map((request) => plan(request, invoices.get(request.payment_hash), now_ms));
    const made = plans.flatMap((planned) => ('row' in planned ? [planned.row] : []));
    // A hash that the batch names twice is one payment: a statement may not touch its row twice.
    const rows = [...new Map(made.map((row) => [row.payment_hash, row])).values()];
    if (rows.length > 0) await sql.query(INSERT_PAYMENTS, [rowsParameter(rows)], 'sandbox pay');
    return (await lookupPayments(sql, hashes)).map((outcome, index) => {
      const planned = plans[index];
      if (planned && 'fail' in planned) return failed(planned.fail);
      return planned?.silent ? { state: 'unknown', detail: 'the node did not answer' } : outcome;
    });
  });
}

/** Makes invoices of the outside node. */
export function createOutsideInvoices({ db, clock, seed }: Sandbox) {
  const make = createInvoiceMaker(seed, 'outside');
  const store = together(1, async (rows: readonly OutsideRow[]) => {
    await insertRows(db, 'sandbox_outside_invoices', rows);
    return rows;
  });
  return async (wanted: OutsideInvoice): Promise<Invoice> => {
    const { amount_msats, description, expiry_seconds, ...treatment } = wanted;
    const preimage = derive(seed, 'outside', randomUUID());
    // An invoice tells its time in whole seconds: from then on, not from now, its payer counts.
    const created_at_ms = Math.floor(clock.now() / 1000) * 1000;
    const invoice = make(preimage, { amount_msats, description, expiry_seconds, created_at_ms });
    await store({
      payment_hash: invoice.payment_hash,
      preimage: preimage.toString('hex'),
      amount_msats,
      expires_at: timeText(created_at_ms + expiry_seconds * 1000),
      ...treatment,
    });
    return invoice;
  };
}

/** Pays invoices of the outside node. A database that is away is a node whose answer did not come. */
export function createPay(sandbox: Sandbox): LightningNode['pay'] {
  const pay = together(2, (requests: readonly PayRequest[]) => payBatch(sandbox, requests));
  return (requests) =>
    requests.map((request) =>
      pay(request).catch((error: Error) => ({ state: 'unknown', detail: error.message })),
    );
}

export async function lookupPayments(sql: Sql, payment_hashes: readonly string[]): Promise<SendOutcome[]> {
  const rows = await sql.query<PaymentRow>(
    `SELECT payment_hash, preimage, fee_msats, state, failure_code FROM sandbox_payments
     WHERE payment_hash = ANY($1)`,
    [payment_hashes],
    'sandbox payments',
  );
  const known = new Map(rows.map((row) => [row.payment_hash, outcomeOf(row)]));
  return payment_hashes.map((hash) => known.get(hash) ?? { state: 'not_found' });
}

/** Ends a payment in flight; null when none is. */
export async function release(
  { db }: Sandbox,
  payment_hash: string,
  outcome: 'settle' | 'fail',
): Promise<SendOutcome | null> {
  const [row] = await db.query<PaymentRow>(
    `UPDATE sandbox_payments SET state = $2, failure_code = CASE $2 WHEN 'failed' THEN 'no_route' END
     WHERE payment_hash = $1 AND state = 'in_flight'
     RETURNING payment_hash, preimage, fee_msats, state, failure_code`,
    [payment_hash, outcome === 'settle' ? 'settled' : 'failed'],
  );
  return row ? outcomeOf(row) : null;
}

/** Ends what is due; answers what ended. Each end is told by the server that took it, the others skip its row. */
export async function endDue({ db, clock }: Sandbox) {
  const rows = await db.query<PaymentRow>(
    `UPDATE sandbox_payments p SET state = p.ends_as FROM (
       SELECT payment_hash FROM sandbox_payments
       WHERE state = 'in_flight' AND due_at <= $1 ORDER BY due_at LIMIT ${DUE_LIMIT} FOR UPDATE SKIP LOCKED
     ) due WHERE p.payment_hash = due.payment_hash
     RETURNING p.payment_hash, preimage, fee_msats, state, failure_code`,
    [timeText(clock.now())],
    'sandbox due',
  );
  return rows.map((row) => ({ payment_hash: row.payment_hash, outcome: outcomeOf(row) }));
}

export async function lastPaymentIndex({ db }: Sandbox): Promise<bigint> {
  const [row] = await db.query<{ last: bigint | null }>(
    'SELECT max(payment_index) AS last FROM sandbox_payments',
  );
  return row?.last ?? 0n;
}
