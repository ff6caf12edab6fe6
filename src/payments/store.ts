import { rowsParameter, type Sql } from '../core/db.ts';
import { refOf, type OwnedRef, type Payment, type PaymentRef, type SeenOutput } from './types.ts';

const REF_COLUMNS = 'organization_id uuid, environment_id uuid, id uuid';

/** Locks and reads payments by primary key order; one that does not exist is left out. */
export const lockPayments = (sql: Sql, refs: readonly PaymentRef[]): Promise<Payment[]> =>
  sql.query<Payment>(
    `SELECT p.* FROM json_to_recordset($1) AS r(${REF_COLUMNS})
     JOIN payments p ON p.organization_id = r.organization_id AND p.environment_id = r.environment_id AND p.id = r.id
     ORDER BY p.organization_id, p.environment_id, p.id FOR NO KEY UPDATE OF p`,
    [rowsParameter(refs)],
    'lock payments',
  );

/** The same without a lock. */
export const readPayments = (sql: Sql, refs: readonly PaymentRef[]): Promise<Payment[]> =>
  sql.query<Payment>(
    `SELECT p.* FROM json_to_recordset($1) AS r(${REF_COLUMNS})
     JOIN payments p ON p.organization_id = r.organization_id AND p.environment_id = r.environment_id AND p.id = r.id`,
    [rowsParameter(refs)],
    'read payments',
  );

/** Writes what may change of payments: who, how much was asked and when it was made never does. */
export async function updatePayments(sql: Sql, payments: readonly Payment[]): Promise<void> {
  if (payments.length === 0) return;
  const rows = payments.map((payment) => ({
    organization_id: payment.organization_id,
    environment_id: payment.environment_id,
    id: payment.id,
    state: payment.state,
    network_fee: payment.network_fee,
    exchanges: payment.exchanges,
    received: payment.received,
    suspended: payment.suspended,
    gross: payment.gross,
    credited: payment.credited,
    hold_id: payment.hold_id,
    hold_amount: payment.hold_amount,
    payment_hash: payment.payment_hash,
    payment_request: payment.payment_request,
    address: payment.address,
    receipts: payment.receipts,
    frozen: payment.frozen,
    error: payment.error,
    node_index: payment.node_index,
    node_epoch: payment.node_epoch,
    calls: payment.calls,
    last_position: payment.last_position,
    updated_at: payment.updated_at,
  }));
  await sql.query(
    `UPDATE payments p SET state = r.state, network_fee = r.network_fee, exchanges = r.exchanges, received = r.received,
       suspended = r.suspended, gross = r.gross, credited = r.credited, hold_id = r.hold_id,
       hold_amount = r.hold_amount, payment_hash = r.payment_hash, payment_request = r.payment_request, address = r.address,
       receipts = r.receipts, frozen = r.frozen, error = r.error, node_index = r.node_index, node_epoch = r.node_epoch,
       calls = r.calls, last_position = r.last_position, updated_at = r.updated_at
     FROM json_populate_recordset(NULL::payments, $1) r
     WHERE p.organization_id = r.organization_id AND p.environment_id = r.environment_id AND p.id = r.id`,
    [rowsParameter(rows)],
    'update payments',
  );
}

/** Writes what changes of a check once, when it becomes a payment. */
export async function promotePayments(sql: Sql, payments: readonly Payment[]): Promise<void> {
  if (payments.length === 0) return;
  const rows = payments.map((payment) => ({
    ...refOf(payment),
    state: payment.state,
    promoted_at: payment.promoted_at,
    quote_id: payment.quote_id,
    quote: payment.quote,
    target: payment.target,
    metadata: payment.metadata,
  }));
  await sql.query(
    `UPDATE payments p SET check_only = false, state = r.state, promoted_at = r.promoted_at, quote_id = r.quote_id,
       quote = r.quote, target = r.target,
       metadata = r.metadata
     FROM json_populate_recordset(NULL::payments, $1) r
     WHERE p.organization_id = r.organization_id AND p.environment_id = r.environment_id AND p.id = r.id`,
    [rowsParameter(rows)],
    'promote payments',
  );
}

/** Chain outputs of payments that are locked. */
export const readOutputs = (sql: Sql, refs: readonly PaymentRef[]): Promise<SeenOutput[]> =>
  sql.query<SeenOutput>(
    `SELECT o.* FROM json_to_recordset($1) AS r(${REF_COLUMNS})
     JOIN chain_outputs o ON o.organization_id = r.organization_id AND o.environment_id = r.environment_id
       AND o.payment_id = r.id`,
    [rowsParameter(refs)],
    'read outputs',
  );

/** What cannot change of a wallet, as a payment needs it. */
export interface WalletFacts {
  organization_id: string;
  id: string;
  environment_id: string;
  environment_kind: 'staging' | 'production';
  line_of_credit_id: string;
  node_id: string;
  network: string;
  currency: string;
}

/** Reads wallets' unchanging facts. */
export const readWalletFacts = (
  sql: Sql,
  refs: readonly { organization_id: string; id: string }[],
): Promise<WalletFacts[]> =>
  sql.query<WalletFacts>(
    `SELECT a.organization_id, a.id, a.environment_id, e.kind AS environment_kind, a.line_of_credit_id,
       a.node_id, a.network, a.currency
     FROM json_to_recordset($1) AS r(organization_id uuid, id uuid)
     JOIN accounts a ON a.organization_id = r.organization_id AND a.id = r.id AND a.kind = 'wallet'
     JOIN environments e ON e.organization_id = a.organization_id AND e.id = a.environment_id`,
    [rowsParameter(refs)],
    'wallet facts',
  );

/** A receive of this deployment that an invoice or address belongs to. */
export interface Target extends OwnedRef {
  node_id: string;
  key: string;
  environment_kind: 'staging' | 'production';
}

/** Finds receives of this deployment by payment hash (`invoice`) or address, across organizations. */
export const findTargets = (
  sql: Sql,
  keys: readonly { kind: 'invoice' | 'address'; key: string }[],
): Promise<(Target & { kind: string })[]> =>
  sql.query(
    `SELECT k.organization_id, k.environment_id, k.payment_id AS id, p.wallet_id, k.node_id, k.key, k.kind,
       e.kind AS environment_kind
     FROM json_to_recordset($1) AS r(kind text, key text)
     JOIN payment_keys k ON k.key = r.key AND k.kind = r.kind
     JOIN payments p ON p.organization_id = k.organization_id AND p.environment_id = k.environment_id
       AND p.id = k.payment_id
     JOIN environments e ON e.organization_id = k.organization_id AND e.id = k.environment_id`,
    [rowsParameter(keys)],
    'find targets',
  );

/** Outputs that may still be credited, or taken back by the chain. */
export const watchedOutputs = (sql: Sql, node_id: string): Promise<SeenOutput[]> =>
  sql.query<SeenOutput>(
    `SELECT * FROM chain_outputs WHERE node_id = $1 AND state IN ('seen', 'credited') LIMIT 100000`,
    [node_id],
    'watched outputs',
  );

/** On-chain sends in flight among these transactions, with the height that they show now. */
export const findChainSends = (
  sql: Sql,
  node_id: string,
  tx_ids: readonly string[],
): Promise<(PaymentRef & { tx_id: string; height: number | null })[]> =>
  sql.query(
    `SELECT c.organization_id, c.environment_id, c.payment_id AS id, c.tx_id,
       (p.receipts->0->>'height')::integer AS height
     FROM chain_sends c
     JOIN payments p ON p.organization_id = c.organization_id AND p.environment_id = c.environment_id
       AND p.id = c.payment_id AND p.state = 'dispatched'
     WHERE c.tx_id = ANY($2) AND c.node_id = $1`,
    [node_id, tx_ids],
    'find chain sends',
  );
