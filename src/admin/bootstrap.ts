import type { Database, Sql } from '../core/db.ts';
import { newId, type EnvironmentRef } from '../core/ids.ts';
import { networkOf } from '../core/networks.ts';
import { PERMISSIONS } from '../core/http.ts';
import { createLine, type NewLine } from '../credit/store.ts';
import { insertWallet } from '../wallets/store.ts';
import { createKey } from './keys.ts';
import { trail } from './trail.ts';

// A new tenant, by the operator's command or by the first start on an empty database. All in one transaction: it is
// there whole or not at all, and nothing of it has to be cleaned up.

export interface BootstrapRequest {
  organization: string;
  kind: 'staging' | 'production';
  /** As requests name it: mainnet, testnet3, mutinynet. */
  network: string;
  currency: 'btc' | 'usd';
  /** Of the line, in base units of the currency. */
  limit: bigint;
  wallet_name: string;
  /** Where several nodes serve the network. */
  node?: string | undefined;
}

/** What a client needs to begin, under the names that existing clients read. */
export interface Credentials extends EnvironmentRef, WalletOnLine {
  api_key: string;
  network: string;
  /** On the sandbox a wallet of dollars stands beside the first one. */
  usd?: WalletOnLine;
}

interface WalletOnLine {
  line_of_credit_id: string;
  wallet_id: string;
}

/** What every new organization has. `treasury`, which is served too, is switched on for who wants it. */
const FEATURES = ['payments', 'onchain', 'bip21', 'usd'];
/** Of the dollars that the sandbox brings: $10,000. */
const SANDBOX_USD_LIMIT_CENTS = 1_000_000n;

/** A node that wallets can be given: the sandbox, or one that the operator registered. */
export interface ServingNode {
  id: string;
  /** As it is stored. */
  network: string;
}

const SANDBOX: ServingNode = { id: 'sandbox', network: 'mutinynet' };

/**
 * The node for a network, as a request names it: a registered one first, then the sandbox, which production never
 * sees. Throws when none serves it.
 */
export function nodeFor(
  registered: readonly ServingNode[],
  network: string,
  kind: 'staging' | 'production',
  id?: string,
): ServingNode {
  const serving = [...registered, ...(kind === 'staging' ? [SANDBOX] : [])].filter(
    (node) => node.network === networkOf(network) && (id === undefined || node.id === id),
  );
  const [node] = serving;
  if (node) return node;
  throw new Error(`no ${id === undefined ? 'node' : `node ${id}`} serves ${network} for ${kind} here`);
}

/** Makes a line of credit with a wallet on it that has no credit of its own. */
async function openWallet(sql: Sql, name: string, terms: Omit<NewLine, 'id'>): Promise<WalletOnLine> {
  const [line_of_credit_id, wallet_id] = [newId(), newId()];
  const line = { ...terms, id: line_of_credit_id, send_bps: 0, receive_bps: 0 };
  await createLine(sql, line);
  const wallet = { ...terms, id: wallet_id, name, limit: 0n, metadata: null };
  await insertWallet(sql, wallet, line, new Date().toISOString());
  return { line_of_credit_id, wallet_id };
}

/** Makes an organization with an environment, a line of credit, a wallet and an API key. */
export async function bootstrap(
  db: Database,
  request: BootstrapRequest,
  registered: readonly ServingNode[] = [],
): Promise<Credentials> {
  const { id: node_id, network } = nodeFor(registered, request.network, request.kind, request.node);
  const [organization_id, environment_id] = [newId(), newId()];
  const made = await db.transaction(async (sql) => {
    await sql.query('INSERT INTO organizations (id, name, features) VALUES ($1, $2, $3)', [
      organization_id,
      request.organization,
      FEATURES,
    ]);
    await sql.query('INSERT INTO environments (organization_id, id, kind, name) VALUES ($1, $2, $3, $3)', [
      organization_id,
      environment_id,
      request.kind,
    ]);
    const { currency, limit, wallet_name: name } = request;
    const place = { organization_id, environment_id, node_id, network };
    const first = await openWallet(sql, name, { ...place, currency, limit });
    // So that trying dollars needs no operator; on a real node lines are the operator's to give.
    const dollars = { ...place, currency: 'usd', limit: SANDBOX_USD_LIMIT_CENTS };
    const has_usd = node_id === SANDBOX.id && currency === 'btc';
    const usd = has_usd ? await openWallet(sql, `${name} (USD)`, dollars) : null;
    const key = { name: 'bootstrap', permissions: PERMISSIONS, expires_at: null, valid_ips: null };
    const { api_key } = await createKey(sql, { organization_id, environment_id, ...key });
    await trail(sql, 'bootstrap', organization_id, { ...request, environment_id, ...first, usd });
    return { api_key, ...first, ...(usd ? { usd } : {}) };
  });
  return { organization_id, environment_id, network: request.network, ...made };
}

/** The credentials as an environment file, by the names that the official client's examples read. */
export const credentialsFile = (base_url: string, made: Credentials): string =>
  [
    `VOLTAGE_BASE_URL=${base_url}`,
    `VOLTAGE_API_KEY=${made.api_key}`,
    `VOLTAGE_ORGANIZATION_ID=${made.organization_id}`,
    `VOLTAGE_ENVIRONMENT_ID=${made.environment_id}`,
    `VOLTAGE_LINE_OF_CREDIT_ID=${made.line_of_credit_id}`,
    `VOLTAGE_WALLET_ID=${made.wallet_id}`,
    `VOLTAGE_NETWORK=${made.network}`,
    ...(made.usd
      ? [
          `VOLTAGE_USD_LINE_OF_CREDIT_ID=${made.usd.line_of_credit_id}`,
          `VOLTAGE_USD_WALLET_ID=${made.usd.wallet_id}`,
        ]
      : []),
    '',
  ].join('\n');
