import { hash } from 'node:crypto';
import { insertRows, rowsParameter, type Sql } from '../core/db.ts';

/**
 * The accounts of a node that every organization has its own set of. They have no floor, so they carry
 * no balance: they are appended to without a lock and summed from the transfers (rollup.ts).
 */
const NODE_ACCOUNT_KINDS = [
  'channels',
  'chain',
  'network_fees',
  'processing_fees',
  'capital',
  'loss',
  'frozen',
  'exchange',
  'suspense',
] as const;

/** The most that an account's column holds. */
export const MAX_BIGINT = 2n ** 63n - 1n;

/** What nodes move. */
export const RAIL_CURRENCY = 'btc';

/** The accounts that an organization has of each node. */
export type NodeAccountKind = (typeof NODE_ACCOUNT_KINDS)[number];

// Derived ids are asked for several times per transfer; emptied when full, so it cannot grow with tenants.
const MAX_CACHED_IDS = 50_000;
const cachedIds = new Map<string, string>();

/** Id of a node's account: derived from what names it, so that posting a transfer needs no lookup. */
export function nodeAccountId(
  organization_id: string,
  node_id: string,
  kind: NodeAccountKind,
  currency: string,
): string {
  const name = `${organization_id}/${kind}/${currency}/${node_id}`;
  const cached = cachedIds.get(name);
  if (cached !== undefined) return cached;
  const hex = hash('sha256', name, 'hex');
  // UUID version 8 (its content is the application's own), variant 10.
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 3) | 8).toString(16);
  const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
  if (cachedIds.size >= MAX_CACHED_IDS) cachedIds.clear();
  cachedIds.set(name, id);
  return id;
}

// Stryker disable all: SQL, judged by the tests against PostgreSQL.

/** Whose accounts of which node, and in which currency beside bitcoin. */
export interface NodeAccounts {
  organization_id: string;
  node_id: string;
  network: string;
  currency: string;
}

/**
 * Makes the rows of an organization's accounts of a node; those that exist stay as they are. Whatever the currency,
 * a node moves bitcoin: its accounts in bitcoin are made in any case.
 */
export async function ensureNodeAccounts(sql: Sql, node: NodeAccounts): Promise<void> {
  const { organization_id, node_id, network } = node;
  const rows = [...new Set([RAIL_CURRENCY, node.currency])].flatMap((currency) =>
    NODE_ACCOUNT_KINDS.map((kind) => ({
      organization_id,
      id: nodeAccountId(organization_id, node_id, kind, currency),
      kind,
      node_id,
      network,
      currency,
    })),
  );
  // In id order: two transactions that make the same rows wait for each other in one direction only.
  await sql.query(
    `INSERT INTO accounts (organization_id, id, kind, node_id, network, currency)
     SELECT organization_id, id, kind, node_id, network, currency
     FROM json_populate_recordset(NULL::accounts, $1) ORDER BY id
     ON CONFLICT DO NOTHING`,
    [rowsParameter(rows)],
    'ensure node accounts',
  );
}

/** What a wallet begins with. */
export interface NewWalletAccount extends NodeAccounts {
  /** The wallet's id: a wallet and its account are one. */
  id: string;
  environment_id: string;
  line_of_credit_id: string;
  /** How far below zero it may go, in base units of `currency`. */
  limit: bigint;
  /** Its line's processing fees, in basis points. */
  line_send_bps: number;
  line_receive_bps: number;
  /** RFC 3339. */
  updated_at: string;
}

/**
 * Opens a wallet's account with a total of 0, and the accounts of its node if this is the first. Rejects on an id that
 * exists (the primary key).
 */
export async function openWalletAccount(sql: Sql, account: NewWalletAccount): Promise<void> {
  const row = { ...account, kind: 'wallet', total: 0n, held: 0n, line_disabled: false };
  await insertRows(sql, 'accounts', [row]);
  await ensureNodeAccounts(sql, account);
}
