import type { Sql } from '../core/db.ts';
import type { NodeBooks } from '../lightning/node.ts';

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

/** Which addresses of these transactions belong to receives of users. */
export async function addressesOfPayments(
  sql: Sql,
  node_id: string,
  books: NodeBooks,
): Promise<ReadonlySet<string>> {
  const addresses = books.transactions.flatMap(({ outputs }) => outputs.map(({ address }) => address));
  const rows = await sql.query<{ key: string }>(
    `SELECT key FROM payment_keys WHERE key = ANY($1) AND kind = 'address' AND node_id = $2`,
    [addresses, node_id],
    'addresses of payments',
  );
  return new Set(rows.map(({ key }) => key));
}

/** Which of these transactions are on-chain sends of users. */
export async function chainSendIds(
  sql: Sql,
  node_id: string,
  books: NodeBooks,
): Promise<ReadonlySet<string>> {
  const rows = await sql.query<{ tx_id: string }>(
    'SELECT tx_id FROM chain_sends WHERE tx_id = ANY($1) AND node_id = $2',
    [books.transactions.map(({ tx_id }) => tx_id), node_id],
    'chain sends among',
  );
  return new Set(rows.map(({ tx_id }) => tx_id));
}

/** Which of these keys are booked. */
export async function bookedKeys(
  sql: Sql,
  node_id: string,
  keys: readonly string[],
): Promise<ReadonlySet<string>> {
  const rows = await sql.query<{ key: string }>(
    'SELECT key FROM node_bookings WHERE node_id = $1 AND key = ANY($2)',
    [node_id, keys],
    'booked keys',
  );
  return new Set(rows.map(({ key }) => key));
}
