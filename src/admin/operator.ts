import { createTimestamps, systemClock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { newId, type EnvironmentRef } from '../core/ids.ts';
import { changeLine, createLine, type LineChange, type LineRates } from '../credit/store.ts';
import { deposit, lockWallets, newPosting, post, withdraw, type WalletRef } from '../ledger/ledger.ts';
import { lockLine } from '../ledger/lines.ts';
import { createWriter } from '../payments/writer.ts';
import { resolvePayment, type Verdict } from '../payments/resolve.ts';
import type { Payment, PaymentRef } from '../payments/types.ts';
import { nodeFor, type ServingNode } from './bootstrap.ts';
import { tellServers } from './keys.ts';
import { trail } from './trail.ts';

// What an operator changes in tenants and money. What was done, and by whom, is written in the same transaction
// (`trail`); only the end of a payment is a batch of its own before. Money moves by the ledger's functions under its
// locks, so a server that pays meanwhile waits its turn.

const KNOWN_FEATURES = ['payments', 'onchain', 'bip21', 'treasury', 'swaps', 'assets', 'usd'];
/** What the code serves: switching on anything else would be an empty promise. */
const SERVED_FEATURES = new Set(['payments', 'onchain', 'bip21', 'treasury', 'usd']);

/** Switches features of an organization on or off; answers those that are on now. */
export async function setFeatures(
  db: Database,
  organization_id: string,
  switches: Record<string, boolean>,
): Promise<string[]> {
  for (const [feature, on] of Object.entries(switches)) {
    if (!KNOWN_FEATURES.includes(feature))
      throw new Error(`unknown feature ${feature}: use ${KNOWN_FEATURES.join(', ')}`);
    if (on && !SERVED_FEATURES.has(feature)) throw new Error(`this deployment does not serve ${feature}`);
  }
  const features = await db.transaction(async (sql) => {
    const [row] = await sql.query<{ features: string[] }>(
      'SELECT features FROM organizations WHERE id = $1 FOR UPDATE',
      [organization_id],
    );
    // Locked: of two operators at once neither undoes what the other one switched.
    if (!row) throw new Error(`no organization ${organization_id}`);
    const on = KNOWN_FEATURES.filter((feature) => switches[feature] ?? row.features.includes(feature));
    await sql.query('UPDATE organizations SET features = $2 WHERE id = $1', [organization_id, on]);
    await trail(sql, 'features set', organization_id, { switches });
    return on;
  });
  await tellServers(db);
  return features;
}

export interface NewOperatorLine extends EnvironmentRef, Partial<LineRates> {
  network: string;
  currency: string;
  limit: bigint;
  /** Where several nodes serve the network. */
  node?: string | undefined;
}

/** Makes a line of credit on a node that serves the network; answers its id. */
export async function addLine(
  db: Database,
  line: NewOperatorLine,
  registered: readonly ServingNode[] = [],
): Promise<string> {
  if (!['btc', 'usd'].includes(line.currency)) throw new Error('lines are in btc or usd');
  const [environment] = await db.query<{ kind: 'staging' | 'production' }>(
    'SELECT kind FROM environments WHERE organization_id = $1 AND id = $2',
    [line.organization_id, line.environment_id],
  );
  if (!environment) throw new Error(`no environment ${line.environment_id}`);
  const { id: node_id, network } = nodeFor(registered, line.network, environment.kind, line.node);
  const id = newId();
  await db.transaction(async (sql) => {
    await createLine(sql, { ...line, id, network, node_id });
    const { organization_id, ...detail } = line;
    await trail(sql, 'lines create', organization_id, { id, ...detail });
  });
  return id;
}

/**
 * Changes a line's limit, fees or spread, disables or enables it. Servers need not be told: what a payment is judged
 * by is copied to its wallet's account, which every payment locks.
 */
export async function updateLine(db: Database, line_id: string, change: LineChange): Promise<void> {
  await db.transaction(async (sql) => {
    const [row] = await sql.query<{ organization_id: string }>(
      'SELECT organization_id FROM lines_of_credit WHERE id = $1',
      [line_id],
    );
    const line = row && (await lockLine(sql, row.organization_id, line_id));
    if (!line) throw new Error(`no line of credit ${line_id}`);
    await changeLine(sql, line, change);
    await trail(sql, 'lines update', line.organization_id, { line_id, ...change });
  });
}

/** Moves money between a wallet and the operator's capital; amounts in the wallet's base units. */
export async function moveFunds(
  db: Database,
  kind: 'deposit' | 'withdraw',
  wallet_id: string,
  amount: bigint,
): Promise<{ total: bigint }> {
  if (amount <= 0n) throw new Error('--amount must be above 0');
  return db.transaction(async (sql) => {
    const refs = await sql.query<WalletRef>('SELECT organization_id, id FROM wallets WHERE id = $1 LIMIT 1', [
      wallet_id,
    ]);
    const [account] = await lockWallets(sql, refs);
    if (!account) throw new Error(`no wallet ${wallet_id}`);
    const posting = newPosting();
    const reason = { payment_id: null, at: createTimestamps(systemClock)() };
    if (kind === 'deposit') deposit(posting, account, amount, reason);
    else if (!withdraw(posting, account, amount, reason))
      throw new Error('the wallet has less available than that');
    await post(sql, posting);
    await trail(sql, kind, account.organization_id, { wallet_id, amount });
    return { total: account.total };
  });
}

/** Everything that waits for a human, oldest first. */
export const openAttention = (db: Database): Promise<Record<string, unknown>[]> =>
  db.query(
    `SELECT kind, organization_id, environment_id, payment_id, detail, raised_at FROM attention
     WHERE resolved_at IS NULL
     UNION ALL
     SELECT 'stuck', p.organization_id, p.environment_id, p.id,
       jsonb_build_object('state', p.state, 'since', p.updated_at, 'attempts', j.attempts), p.updated_at
     FROM jobs j
     JOIN payments p ON p.organization_id = j.organization_id AND p.environment_id = j.environment_id
       AND p.id = j.payment_id
     WHERE j.kind IN ('dispatch', 'internal', 'track', 'chain') AND p.updated_at < now() - interval '1 hour'
     ORDER BY raised_at LIMIT 10000`,
  );

/** Ends a stuck send by the operator's word, through the same rules as the node's. */
export async function resolveByOperator(
  db: Database,
  payment_id: string,
  verdict: Verdict,
): Promise<Payment> {
  // By way of the environments, which are few: payments have no index on their id alone.
  const rows = await db.query<PaymentRef>(
    `SELECT p.organization_id, p.environment_id, p.id FROM payments p
     JOIN environments e ON e.organization_id = p.organization_id AND e.id = p.environment_id AND p.id = $1`,
    [payment_id],
  );
  const [ref] = rows;
  if (!ref || rows.length > 1)
    throw new Error(`${rows.length === 0 ? 'no payment' : 'several payments'} ${payment_id}`);
  // A batch of one, as a server would write it: under the payment's lock, and refused where the node's answer came
  // first.
  const writer = createWriter({
    db,
    time: createTimestamps(systemClock),
    worker: 0,
    max_batch: 1,
    max_queue: 1,
  });
  const payment = await resolvePayment({ writer }, ref, verdict);
  await db.transaction(async (sql) => {
    await sql.query(
      'UPDATE attention SET resolved_at = now() WHERE payment_id = $1 AND resolved_at IS NULL',
      [payment_id],
    );
    const detail = verdict === 'failed' ? { verdict } : { fee_msats: verdict.settled.fee_msats };
    await trail(sql, 'payments resolve', ref.organization_id, { payment_id, ...detail });
  });
  return payment;
}
