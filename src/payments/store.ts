import { rowsParameter, type Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import type { WalletRef } from '../ledger/ledger.ts';
import { withRows } from './records.ts';
import { refOf, type OwnedRef, type Payment, type PaymentRef, type SeenOutput } from './types.ts';

// The SQL of `payments` itself, many rows a statement, and what others read of it. What the batch (`work.ts`) writes
// with it was decided in memory, under the locks that `lockPayments` takes; no other code changes the table.

const REF_COLUMNS = 'organization_id uuid, environment_id uuid, id uuid';
const SAME_PAYMENT =
  'p.organization_id = r.organization_id AND p.environment_id = r.environment_id AND p.id = r.id';

/** Payments by their keys alone: whoever names one by its row does not send the row along. */
const refsParameter = (refs: readonly PaymentRef[]): string => rowsParameter(refs.map(refOf));
const SELECT = `SELECT p.* FROM json_to_recordset($1) AS r(${REF_COLUMNS}) JOIN payments p ON ${SAME_PAYMENT}`;

/**
 * Locks and reads payments by primary key order; one that does not exist is left out. The order is that of every
 * writer, so that no two wait for each other; the lock leaves rows that only refer to the payment free to be written.
 */
export const lockPayments = (sql: Sql, refs: readonly PaymentRef[]): Promise<Payment[]> =>
  sql.query<Payment>(
    `${SELECT} ORDER BY p.organization_id, p.environment_id, p.id FOR NO KEY UPDATE OF p`,
    [refsParameter(refs)],
    'lock payments',
  );

/** The same without a lock. */
export const readPayments = (sql: Sql, refs: readonly PaymentRef[]): Promise<Payment[]> =>
  sql.query<Payment>(SELECT, [refsParameter(refs)], 'read payments');

/** Sets these columns, beside what `also` sets, of the payments ($1) that they are given of. */
function setter(columns: readonly (keyof Payment)[], name: string, also = '') {
  const set = columns.map((column) => `${column} = r.${column}`).join(', ');
  const text = `UPDATE payments p SET ${also}${set} FROM json_populate_recordset(NULL::payments, $1) r WHERE ${SAME_PAYMENT}`;
  return (sql: Sql, payments: readonly Payment[]): Promise<void> => {
    const rows = payments.map((payment) => {
      const row: Record<string, unknown> = { ...refOf(payment) };
      for (const column of columns) row[column] = payment[column];
      return row;
    });
    return withRows(sql, rows, text, name);
  };
}

/** Writes what may change of payments: who, how much was asked and when it was made never does. */
export const updatePayments = setter(
  [
    'state',
    'network_fee',
    'exchanges',
    'received',
    'suspended',
    'gross',
    'credited',
    'hold_id',
    'hold_amount',
    'payment_hash',
    'payment_request',
    'address',
    'receipts',
    'frozen',
    'error',
    'node_index',
    'node_epoch',
    'calls',
    'last_position',
    'updated_at',
  ],
  'update payments',
);

/** Writes what changes of a check once, when it becomes a payment. */
export const promotePayments = setter(
  ['state', 'promoted_at', 'quote_id', 'quote', 'target', 'metadata'],
  'promote payments',
  'check_only = false, ',
);

/** Chain outputs of payments that are locked. */
export const readOutputs = (sql: Sql, refs: readonly PaymentRef[]): Promise<SeenOutput[]> =>
  sql.query<SeenOutput>(
    `SELECT o.* FROM json_to_recordset($1) AS r(${REF_COLUMNS})
     JOIN chain_outputs o ON o.organization_id = r.organization_id AND o.environment_id = r.environment_id
       AND o.payment_id = r.id`,
    [refsParameter(refs)],
    'read outputs',
  );

/** What cannot change of a wallet, as a payment needs it. */
export interface WalletFacts extends EnvironmentRef {
  id: string;
  environment_kind: 'staging' | 'production';
  line_of_credit_id: string;
  node_id: string;
  network: string;
  currency: string;
}

/** Reads wallets' unchanging facts. */
export const readWalletFacts = (sql: Sql, refs: readonly WalletRef[]): Promise<WalletFacts[]> =>
  sql.query<WalletFacts>(
    `SELECT a.organization_id, a.id, a.environment_id, e.kind AS environment_kind, a.line_of_credit_id,
       a.node_id, a.network, a.currency
     FROM json_to_recordset($1) AS r(organization_id uuid, id uuid)
     JOIN accounts a ON a.organization_id = r.organization_id AND a.id = r.id AND a.kind = 'wallet'
     JOIN environments e ON e.organization_id = a.organization_id AND e.id = a.environment_id`,
    [rowsParameter(refs)],
    'wallet facts',
  );

/** What a payer has of a receive: the hash of its invoice, or its address. */
export interface TargetKey {
  kind: 'invoice' | 'address';
  key: string;
}

/** A receive of this deployment that an invoice or address belongs to. */
export interface Target extends OwnedRef, TargetKey {
  node_id: string;
  environment_kind: 'staging' | 'production';
}

/** Finds receives of this deployment by payment hash (`invoice`) or address, across organizations. */
export const findTargets = (sql: Sql, keys: readonly TargetKey[]): Promise<Target[]> =>
  sql.query<Target>(
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
