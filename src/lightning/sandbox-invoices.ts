import { createLane, type Lane } from '../core/batch.ts';
import { timeText, type Clock } from '../core/clock.ts';
import { rowsParameter, type Database } from '../core/db.ts';
import { CHAINS } from './address.ts';
import { encodeInvoice } from './bolt11.ts';
import type { CancelOutcome, Invoice, InvoiceRequest, SettledInvoice } from './node.ts';
import { derive, sha256 } from './sandbox-keys.ts';

export type Paid =
  { status: 'settled'; payment_hash: string; preimage: string } | { status: 'failed'; reason: string };

/** Invoices of the sandbox node, and their outside payers. */
export interface SandboxInvoices {
  create(requests: readonly InvoiceRequest[]): Promise<Invoice[]>;
  cancel(payment_hashes: readonly string[]): Promise<CancelOutcome[]>;
  settledAmong(payment_hashes: readonly string[]): Promise<SettledInvoice[]>;
  settledSince(settle_index: bigint, limit: number): Promise<SettledInvoice[]>;
  /** Pays one from outside; `amount_msats` where the invoice leaves it open, or to pay more. */
  pay(payment_hash: string, amount_msats: bigint | null): Promise<Paid>;
  worth(): Promise<bigint>;
}

interface InvoiceRow {
  payment_hash: string;
  preimage: string;
  paid_msats: bigint;
  settle_index: bigint;
  settled_at_ms: bigint;
}

const SETTLED = `payment_hash, preimage, paid_msats, settle_index,
  (extract(epoch FROM settled_at) * 1000)::bigint AS settled_at_ms`;

const settledOf = (row: InvoiceRow): SettledInvoice => ({
  payment_hash: row.payment_hash,
  preimage: row.preimage,
  amount_msats: row.paid_msats,
  settle_index: row.settle_index,
  settled_at_ms: Number(row.settled_at_ms),
});

// Rows are locked in one order by payers and cancellers alike; the row decides who was first.
const LOCK = `SELECT i.payment_hash FROM sandbox_invoices i WHERE i.payment_hash = ANY($1) ORDER BY i.payment_hash FOR UPDATE`;

const PAY = `
  WITH locked AS (${LOCK})
  UPDATE sandbox_invoices i SET state = 'settled', paid_msats = coalesce(r.amount_msats, i.amount_msats),
    settle_index = nextval('sandbox_settle_index'), settled_at = $3
  FROM locked JOIN json_to_recordset($2) AS r(payment_hash text, amount_msats bigint) USING (payment_hash)
  WHERE i.payment_hash = locked.payment_hash AND i.state = 'open' AND i.expires_at > $3
    AND coalesce(r.amount_msats, i.amount_msats) BETWEEN coalesce(i.amount_msats, 1) AND coalesce(i.amount_msats * 2, 9e18)
  RETURNING i.payment_hash, preimage, paid_msats, settle_index, (extract(epoch FROM settled_at) * 1000)::bigint AS settled_at_ms`;

interface Payer {
  payment_hash: string;
  amount_msats: bigint | null;
}

export function createSandboxInvoices(
  db: Database,
  clock: Clock,
  seed: Buffer,
  settled: (invoices: SettledInvoice[]) => Promise<void>,
): SandboxInvoices {
  const node_key = derive(seed, 'node', 'own');

  function make(request: InvoiceRequest): { invoice: Invoice; row: object } {
    const preimage = derive(seed, 'preimage', request.reference);
    const hash = sha256(preimage);
    const payment_hash = hash.toString('hex');
    const payment_request = encodeInvoice({
      prefix: CHAINS.mutinynet.invoice_prefix,
      amount_msats: request.amount_msats,
      payment_hash: hash,
      payment_secret: derive(seed, 'secret', payment_hash),
      description: request.description,
      expiry_seconds: request.expiry_seconds,
      created_at_ms: request.created_at_ms,
      private_key: node_key,
    });
    const row = {
      payment_hash,
      preimage: preimage.toString('hex'),
      amount_msats: request.amount_msats,
      expires_at: timeText(request.created_at_ms + request.expiry_seconds * 1000),
      state: 'open',
    };
    return { invoice: { payment_hash, payment_request }, row };
  }

  async function payAll(payers: readonly Payer[]): Promise<Paid[]> {
    // Two payers of one invoice: the first is tried, the other finds it paid.
    const first = new Map([...payers].reverse().map((payer) => [payer.payment_hash, payer]));
    const hashes = [...first.keys()];
    const rows = await db.query<InvoiceRow>(
      PAY,
      [hashes, rowsParameter([...first.values()]), timeText(clock.now())],
      'sandbox paid',
    );
    if (rows.length > 0) await settled(rows.map(settledOf));
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
  const payLane: Lane<Payer, Paid> = createLane({
    max_batch: 256,
    max_queue: 100_000,
    concurrency: 4,
    run: async (payers) => (await payAll(payers)).map((value) => ({ ok: true as const, value })),
  });

  return {
    async create(requests) {
      const made = requests.map(make);
      if (made.length === 0) return [];
      // Everything follows from the request, so making it again makes the same invoice.
      await db.query(
        `INSERT INTO sandbox_invoices (payment_hash, preimage, amount_msats, expires_at, state)
         SELECT payment_hash, preimage, amount_msats, expires_at, state
         FROM json_populate_recordset(NULL::sandbox_invoices, $1) ON CONFLICT DO NOTHING`,
        [rowsParameter(made.map(({ row }) => row))],
        'sandbox invoices',
      );
      return made.map(({ invoice }) => invoice);
    },
    async cancel(payment_hashes) {
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
    },
    async settledAmong(payment_hashes) {
      const rows = await db.query<InvoiceRow>(
        `SELECT ${SETTLED} FROM sandbox_invoices WHERE payment_hash = ANY($1) AND state = 'settled'`,
        [payment_hashes],
        'sandbox settled among',
      );
      return rows.map(settledOf);
    },
    async settledSince(settle_index, limit) {
      const rows = await db.query<InvoiceRow>(
        `SELECT ${SETTLED} FROM sandbox_invoices WHERE settle_index > $1 ORDER BY settle_index LIMIT $2`,
        [settle_index, limit],
        'sandbox settled since',
      );
      return rows.map(settledOf);
    },
    pay: (payment_hash, amount_msats) => payLane.submit({ payment_hash, amount_msats }),
    async worth() {
      const [sum] = await db.query<{ msats: string }>(
        `SELECT coalesce(sum(paid_msats), 0)::text AS msats FROM sandbox_invoices WHERE settle_index IS NOT NULL`,
      );
      return BigInt(sum?.msats ?? 0);
    },
  };
}
