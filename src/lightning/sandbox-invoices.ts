import { timeText } from '../core/clock.ts';
import { rowsParameter } from '../core/db.ts';
import type { CancelOutcome, Invoice, InvoiceRequest, LightningNode, SettledInvoice } from './node.ts';
import { createInvoiceMaker, derive, together, type Sandbox } from './sandbox-keys.ts';

// Invoices of the sandbox node, and their outside payers. Whether an invoice is paid or cancelled first is decided by its
// row alone, since an invoice that is settled inside must be one that nobody outside can pay any more (threat 7).

export type Paid =
  { status: 'settled'; payment_hash: string; preimage: string } | { status: 'failed'; reason: string };

/** Of an invoice `i`, as the port tells it. */
const SETTLED = `i.payment_hash, i.preimage, i.paid_msats AS amount_msats, i.settle_index,
  round(extract(epoch FROM i.settled_at) * 1000)::float8 AS settled_at_ms`;

// Rows are locked in one order by payers and cancellers alike; the row decides who was first.
const LOCK = `SELECT i.payment_hash FROM sandbox_invoices i WHERE i.payment_hash = ANY($1) ORDER BY i.payment_hash FOR UPDATE`;

// A payee takes from what it asked for up to twice that (BOLT 4), any amount where it asked for none.
const PAY = `
  WITH locked AS (${LOCK})
  UPDATE sandbox_invoices i SET state = 'settled', paid_msats = coalesce(r.amount_msats, i.amount_msats),
    settle_index = nextval('sandbox_settle_index'), settled_at = $3
  FROM locked JOIN json_to_recordset($2) AS r(payment_hash text, amount_msats bigint) USING (payment_hash)
  WHERE i.payment_hash = locked.payment_hash AND i.state = 'open' AND i.expires_at > $3
    AND coalesce(r.amount_msats, i.amount_msats) BETWEEN coalesce(i.amount_msats, 1) AND coalesce(i.amount_msats * 2, 9e18)
  RETURNING ${SETTLED}`;

interface Payer {
  payment_hash: string;
  amount_msats: bigint | null;
}

async function payAll(
  { db, clock }: Sandbox,
  settled: (invoices: SettledInvoice[]) => Promise<void>,
  payers: readonly Payer[],
): Promise<Paid[]> {
  // Two payers of one invoice: the first is tried, the other finds it paid.
  const first = new Map([...payers].reverse().map((payer) => [payer.payment_hash, payer]));
  const rows = await db.query<SettledInvoice>(
    PAY,
    [[...first.keys()], rowsParameter([...first.values()]), timeText(clock.now())],
    'sandbox paid',
  );
  if (rows.length > 0) await settled(rows);
  const paid = new Map(rows.map((row) => [row.payment_hash, row]));
  return payers.map((payer) => {
    const row = first.get(payer.payment_hash) === payer ? paid.get(payer.payment_hash) : undefined;
    return row
      ? { status: 'settled', payment_hash: row.payment_hash, preimage: row.preimage }
      : {
          status: 'failed',
          reason: 'the invoice is unknown, paid, cancelled or expired, or the amount is not its own',
        };
  });
}

/**
 * Pays invoices from outside, with `amount_msats` where an invoice leaves it open, or to pay more. `settled` is told
 * before a payer is.
 */
export function createOutsidePayer(sandbox: Sandbox, settled: (invoices: SettledInvoice[]) => Promise<void>) {
  const pay = together(4, (payers: readonly Payer[]) => payAll(sandbox, settled, payers));
  return (payment_hash: string, amount_msats: bigint | null) => pay({ payment_hash, amount_msats });
}

/** Everything follows from the request, so making it again makes the same invoice. */
export function createInvoices({ db, seed }: Sandbox): LightningNode['createInvoices'] {
  const make = createInvoiceMaker(seed, 'own');
  return async (requests) => {
    if (requests.length === 0) return [];
    const invoices: Invoice[] = [];
    const rows = requests.map((request: InvoiceRequest) => {
      const preimage = derive(seed, 'preimage', request.reference);
      const invoice = make(preimage, request);
      invoices.push(invoice);
      return {
        payment_hash: invoice.payment_hash,
        preimage: preimage.toString('hex'),
        amount_msats: request.amount_msats,
        expires_at: timeText(request.created_at_ms + request.expiry_seconds * 1000),
        state: 'open',
      };
    });
    await db.query(
      `INSERT INTO sandbox_invoices (payment_hash, preimage, amount_msats, expires_at, state)
       SELECT payment_hash, preimage, amount_msats, expires_at, state
       FROM json_populate_recordset(NULL::sandbox_invoices, $1) ON CONFLICT DO NOTHING`,
      [rowsParameter(rows)],
      'sandbox invoices',
    );
    return invoices;
  };
}

export async function cancelInvoices(
  { db }: Sandbox,
  payment_hashes: readonly string[],
): Promise<CancelOutcome[]> {
  if (payment_hashes.length === 0) return [];
  const rows = await db.query<{ payment_hash: string; state: string }>(
    `WITH locked AS (${LOCK})
     UPDATE sandbox_invoices i SET state = CASE i.state WHEN 'open' THEN 'cancelled' ELSE i.state END
     FROM locked WHERE i.payment_hash = locked.payment_hash RETURNING i.payment_hash, i.state`,
    [payment_hashes],
    'sandbox cancel',
  );
  const states = new Map(rows.map((row) => [row.payment_hash, row.state]));
  // One that was never made cannot be paid either.
  return payment_hashes.map((hash) => (states.get(hash) === 'settled' ? 'settled' : 'cancelled'));
}

export const settledAmong = ({ db }: Sandbox, payment_hashes: readonly string[]): Promise<SettledInvoice[]> =>
  db.query(
    `SELECT ${SETTLED} FROM sandbox_invoices i WHERE i.payment_hash = ANY($1) AND i.state = 'settled'`,
    [payment_hashes],
    'sandbox settled among',
  );

export const settledSince = (
  { db }: Sandbox,
  settle_index: bigint,
  limit: number,
): Promise<SettledInvoice[]> =>
  db.query(
    `SELECT ${SETTLED} FROM sandbox_invoices i WHERE i.settle_index > $1 ORDER BY i.settle_index LIMIT $2`,
    [settle_index, limit],
    'sandbox settled since',
  );
