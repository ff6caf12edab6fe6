import { randomUUID } from 'node:crypto';
import { timeText, type Clock } from '../core/clock.ts';
import { insertRows, rowsParameter, type Database, type Sql } from '../core/db.ts';
import { createLane, type Lane } from '../core/batch.ts';
import { CHAINS } from './address.ts';
import { decodeInvoice, encodeInvoice } from './bolt11.ts';
import type { PayRequest, SendFailure, SendOutcome } from './node.ts';
import { derive, sha256 } from './sandbox-keys.ts';

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

interface OutsideRow {
  payment_hash: string;
  preimage: string;
  amount_msats: bigint | null;
  expires_at: string;
  behavior: Behavior;
  failure_code: SendFailure;
  fee_msats: bigint;
  delay_ms: number;
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

/** Sends from the sandbox node to invoices of a helpful outside node. */
export interface SandboxPayments {
  makeInvoice(invoice: OutsideInvoice): Promise<{ payment_request: string; payment_hash: string }>;
  pay(requests: readonly PayRequest[]): Promise<SendOutcome>[];
  lookup(payment_hashes: readonly string[]): Promise<SendOutcome[]>;
  /** Ends a payment in flight; null when none is. */
  release(payment_hash: string, outcome: 'settle' | 'fail'): Promise<SendOutcome | null>;
  /** Ends what is due; answers what ended. */
  endDue(): Promise<{ payment_hash: string; outcome: SendOutcome }[]>;
  paymentIndex(): Promise<bigint>;
  worth(): Promise<bigint>;
}

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

type Plan = { fail: SendFailure } | { row: object; answer: 'state' | 'unknown' };

/** What the outside node does with a payment: pure. */
function plan(request: PayRequest, invoice: OutsideRow | undefined, now_ms: number): Plan {
  if (!invoice) return { fail: 'no_route' };
  if (Date.parse(invoice.expires_at) <= now_ms) return { fail: 'invalid_bolt11_invoice' };
  if (invoice.amount_msats !== null && invoice.amount_msats !== request.amount_msats) {
    return { fail: 'invalid_payment_amount' };
  }
  // A route one msat above the cap is no route.
  const affordable = invoice.fee_msats <= request.max_fee_msats;
  const failing = !affordable || invoice.behavior === 'fail';
  const failure_code = affordable ? invoice.failure_code : 'no_route';
  const ends_as = invoice.behavior === 'stuck' && affordable ? null : failing ? 'failed' : 'settled';
  const unknown = invoice.behavior === 'unknown' && affordable;
  const wait_ms = unknown && invoice.delay_ms === 0 ? UNKNOWN_SETTLES_AFTER_MS : invoice.delay_ms;
  const waits = ends_as === null || wait_ms > 0;
  return {
    answer: unknown ? 'unknown' : 'state',
    row: {
      payment_hash: request.payment_hash,
      preimage: invoice.preimage,
      amount_msats: request.amount_msats,
      fee_msats: invoice.fee_msats,
      state: waits ? 'in_flight' : ends_as,
      ends_as,
      failure_code: failing ? failure_code : null,
      due_at: waits && ends_as !== null ? timeText(now_ms + wait_ms) : null,
    },
  };
}

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
  WHERE p.state = 'failed'
  RETURNING payment_hash`;

const READ_PAYMENTS = `
  SELECT payment_hash, preimage, fee_msats, state, failure_code FROM sandbox_payments WHERE payment_hash = ANY($1)`;

async function payBatch(
  db: Database,
  now_ms: number,
  requests: readonly PayRequest[],
): Promise<SendOutcome[]> {
  const hashes = requests.map(({ payment_hash }) => payment_hash);
  return db.transaction(async (sql) => {
    const invoices = new Map((await readOutside(sql, hashes)).map((row) => [row.payment_hash, row]));
    const plans = requests.map((request) => plan(request, invoices.get(request.payment_hash), now_ms));
    const rows = new Map(
      plans.flatMap((made, i) => ('row' in made ? [[hashes[i] ?? '', made.row] as const] : [])),
    );
    if (rows.size > 0) await sql.query(INSERT_PAYMENTS, [rowsParameter([...rows.values()])], 'sandbox pay');
    const known = new Map(
      (await sql.query<PaymentRow>(READ_PAYMENTS, [hashes], 'sandbox payments')).map((row) => [
        row.payment_hash,
        row,
      ]),
    );
    return plans.map((made, index): SendOutcome => {
      if ('fail' in made) return failed(made.fail);
      const row = known.get(hashes[index] ?? '');
      if (made.answer === 'unknown') return { state: 'unknown', detail: 'the node did not answer' };
      return row ? outcomeOf(row) : { state: 'not_found' };
    });
  });
}

const readOutside = (sql: Sql, hashes: readonly string[]): Promise<OutsideRow[]> =>
  sql.query<OutsideRow>(
    'SELECT * FROM sandbox_outside_invoices WHERE payment_hash = ANY($1)',
    [hashes],
    'outside invoices',
  );

export function createSandboxPayments(db: Database, clock: Clock, seed: Buffer): SandboxPayments {
  const node_key = derive(seed, 'node', 'outside');
  const invoiceLane: Lane<OutsideRow, void> = createLane({
    max_batch: 256,
    max_queue: 100_000,
    concurrency: 1,
    run: async (rows) => {
      await insertRows(db, 'sandbox_outside_invoices', rows);
      return rows.map(() => ({ ok: true as const, value: undefined }));
    },
  });
  const payLane: Lane<PayRequest, SendOutcome> = createLane({
    max_batch: 256,
    max_queue: 100_000,
    concurrency: 2,
    run: async (requests) =>
      (await payBatch(db, clock.now(), requests)).map((value) => ({ ok: true as const, value })),
  });

  return {
    async makeInvoice(invoice) {
      const preimage = derive(seed, 'outside', randomUUID());
      const created_at_ms = clock.now();
      const hash = sha256(preimage);
      const payment_request = encodeInvoice({
        prefix: CHAINS.mutinynet.invoice_prefix,
        amount_msats: invoice.amount_msats,
        payment_hash: hash,
        payment_secret: derive(seed, 'secret', hash.toString('hex')),
        description: invoice.description,
        expiry_seconds: invoice.expiry_seconds,
        created_at_ms,
        private_key: node_key,
      });
      const payment_hash = hash.toString('hex');
      await invoiceLane.submit({
        payment_hash,
        preimage: preimage.toString('hex'),
        amount_msats: invoice.amount_msats,
        expires_at: timeText(decodeInvoice(payment_request).expires_at_ms),
        behavior: invoice.behavior,
        failure_code: invoice.failure_code,
        fee_msats: invoice.fee_msats,
        delay_ms: invoice.delay_ms,
      });
      return { payment_request, payment_hash };
    },
    // A database that is away is a node whose answer did not come.
    pay: (requests) =>
      requests.map((request) =>
        payLane
          .submit(request)
          .catch((error: Error) => ({ state: 'unknown' as const, detail: error.message })),
      ),
    async lookup(payment_hashes) {
      const rows = await db.query<PaymentRow>(READ_PAYMENTS, [payment_hashes], 'sandbox payments');
      const known = new Map(rows.map((row) => [row.payment_hash, outcomeOf(row)]));
      return payment_hashes.map((hash) => known.get(hash) ?? { state: 'not_found' });
    },
    async release(payment_hash, outcome) {
      const [row] = await db.query<PaymentRow>(
        `UPDATE sandbox_payments SET state = $2, failure_code = CASE $2 WHEN 'failed' THEN 'no_route' END
         WHERE payment_hash = $1 AND state = 'in_flight'
         RETURNING payment_hash, preimage, fee_msats, state, failure_code`,
        [payment_hash, outcome === 'settle' ? 'settled' : 'failed'],
      );
      return row ? outcomeOf(row) : null;
    },
    async endDue() {
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
    },
    async paymentIndex() {
      const [row] = await db.query<{ last: bigint | null }>(
        'SELECT max(payment_index) AS last FROM sandbox_payments',
      );
      return row?.last ?? 0n;
    },
    async worth() {
      const [sum] = await db.query<{ msats: string }>(
        `SELECT coalesce(-sum(amount_msats + fee_msats), 0)::text AS msats FROM sandbox_payments WHERE state = 'settled'`,
      );
      return BigInt(sum?.msats ?? 0);
    },
  };
}
