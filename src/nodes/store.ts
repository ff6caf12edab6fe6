import type { Sql } from '../core/db.ts';
import { newId } from '../core/ids.ts';
import { keepSetting, readSetting } from '../core/settings.ts';
import type { NodeBooks } from '../lightning/node.ts';

// The SQL of a node's books. What moves a node's worth is booked under a key that `node_bookings` takes once: two
// servers that read the same lists write each item once.

interface NodeState {
  books_height: number | null;
  forward_index: number;
  unrounded_closes: number;
}

/** The chain on which each node was seen last, by its name at the node; of nodes that were never met, nothing. */
export async function lastChains(sql: Sql): Promise<ReadonlyMap<string, string>> {
  const rows = await sql.query<{ node_id: string; chain: string }>(
    'SELECT node_id, chain FROM node_state WHERE chain IS NOT NULL',
    [],
    'last chains',
  );
  return new Map(rows.map(({ node_id, chain }) => [node_id, chain]));
}

/** Locks a node's row: one server books at a time. */
export async function lockNodeState(sql: Sql, node_id: string): Promise<NodeState | undefined> {
  const [row] = await sql.query<NodeState>(
    'SELECT books_height, forward_index, unrounded_closes FROM node_state WHERE node_id = $1 FOR UPDATE',
    [node_id],
    'lock node state',
  );
  return row;
}

async function keysOf(sql: Sql, text: string, values: unknown[], name: string): Promise<ReadonlySet<string>> {
  const rows = await sql.query<{ key: string }>(text, values, name);
  return new Set(rows.map(({ key }) => key));
}

/** Which addresses of these transactions belong to receives of users. */
export const addressesOfPayments = (sql: Sql, node_id: string, { transactions }: NodeBooks) =>
  keysOf(
    sql,
    `SELECT key FROM payment_keys WHERE key = ANY($1) AND kind = 'address' AND node_id = $2`,
    [transactions.flatMap(({ outputs }) => outputs.map(({ address }) => address)), node_id],
    'addresses of payments',
  );

/** Which of these transactions are on-chain sends of users. */
export const chainSendIds = (sql: Sql, node_id: string, { transactions }: NodeBooks) =>
  keysOf(
    sql,
    'SELECT tx_id AS key FROM chain_sends WHERE tx_id = ANY($1) AND node_id = $2',
    [transactions.map(({ tx_id }) => tx_id), node_id],
    'chain sends among',
  );

/** Which of these keys are booked. */
export const bookedKeys = (sql: Sql, node_id: string, keys: readonly string[]) =>
  keysOf(
    sql,
    'SELECT key FROM node_bookings WHERE key = ANY($1) AND node_id = $2',
    [keys, node_id],
    'booked keys',
  );

const OPERATOR = 'operator_organization';

/** The operator's own organization, made when a node is first registered: it owns what no user owns. */
export async function operatorOrganization(sql: Sql): Promise<string> {
  const known = await readSetting(sql, OPERATOR);
  // Two servers that register at once both come here: the setting takes the first id, and both use that one.
  if (known !== null) return known;
  const id = await keepSetting(sql, OPERATOR, newId());
  await sql.query(
    `INSERT INTO organizations (id, name, features) VALUES ($1, 'Operator', '{}') ON CONFLICT DO NOTHING`,
    [id],
  );
  return id;
}
