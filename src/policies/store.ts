import { rowsParameter, type Sql } from '../core/db.ts';
import { newId, type EnvironmentRef } from '../core/ids.ts';
import { MAX_BIGINT } from '../ledger/accounts.ts';
import type { PolicyChange, PolicyContent, PolicyType } from './rules.ts';
import { forgetMinutes, keepMinutes } from './usage.ts';

// A policy is stored twice: as it was given, and on its wallet's account as a payment needs it. Both change in one
// transaction under the lock of that account, so a payment obeys all of a change or nothing of it.

export type PolicyWallet = EnvironmentRef & { id: string };

/** One row of `wallet_policies`. */
export interface Policy extends PolicyContent {
  type: PolicyType;
  id: string;
  created_at: string;
  updated_at: string;
}

/** A wallet's policies as of one instant, in the order in which they were set; null when there is no such wallet. */
export async function readPolicies(
  sql: Sql,
  wallet: PolicyWallet,
): Promise<{ updated_at: string; policies: Policy[] } | null> {
  type Joined = Omit<Policy, 'type' | 'bound'> & {
    type: PolicyType | null;
    bound: string | null;
    changed_at: string;
  };
  const rows = await sql.query<Joined>(
    `SELECT coalesce(w.policies_updated_at, w.created_at) AS changed_at, p.type, p.id, p.bound::text AS bound,
       p.send_bps, p.receive_bps, p.created_at, p.updated_at
     FROM wallets w
     LEFT JOIN wallet_policies p ON p.organization_id = w.organization_id AND p.wallet_id = w.id
     WHERE w.organization_id = $1 AND w.id = $2 AND w.environment_id = $3
     ORDER BY p.created_at, p.type`,
    [wallet.organization_id, wallet.id, wallet.environment_id],
    'read policies',
  );
  const [first] = rows;
  if (!first) return null;
  const policies = rows.flatMap(({ type, bound, ...row }) =>
    type === null ? [] : [{ ...row, type, bound: bound === null ? null : BigInt(bound) }],
  );
  return { updated_at: first.changed_at, policies };
}

/**
 * Changes a live wallet's policies and copies them to its account, in the transaction of `sql`; false when the
 * environment has no such wallet.
 */
export async function changePolicies(
  sql: Sql,
  wallet: PolicyWallet,
  change: PolicyChange,
  at: string,
): Promise<boolean> {
  // Payments that were accepted before this are in the database, those that wait for the lock will see it.
  const [account] = await sql.query<{ send_volume: bigint | null }>(
    `SELECT send_volume FROM accounts
     WHERE organization_id = $1 AND id = $2 AND environment_id = $3 AND kind = 'wallet' AND deleted_at IS NULL
     FOR NO KEY UPDATE`,
    [wallet.organization_id, wallet.id, wallet.environment_id],
    'lock account of policies',
  );
  if (!account) return false;
  const { organization_id, id } = wallet;
  await sql.query(
    'DELETE FROM wallet_policies WHERE organization_id = $1 AND wallet_id = $2 AND type = ANY($3)',
    [organization_id, id, change.removed],
    'remove policies',
  );
  await setPolicies(sql, wallet, change, at);
  await copyToAccount(sql, wallet);
  await sql.query(
    'UPDATE wallets SET policies_updated_at = $3 WHERE organization_id = $1 AND id = $2',
    [organization_id, id, at],
    'policies changed',
  );
  // Minutes are kept only while a policy asks for them: from then on by every send, for the day before from its payments.
  if (change.removed.includes('send_volume_limit')) await forgetMinutes(sql, wallet);
  if (change.set.has('send_volume_limit') && account.send_volume === null) await keepMinutes(sql, wallet, at);
  return true;
}

/** A policy that exists keeps its id and `created_at`: it is the same one, with another bound. */
async function setPolicies(sql: Sql, wallet: PolicyWallet, change: PolicyChange, at: string): Promise<void> {
  const rows = [...change.set].map(([type, content]) => ({
    organization_id: wallet.organization_id,
    wallet_id: wallet.id,
    type,
    id: newId(),
    ...content,
    created_at: at,
    updated_at: at,
  }));
  await sql.query(
    `INSERT INTO wallet_policies SELECT * FROM json_populate_recordset(NULL::wallet_policies, $1)
     ON CONFLICT (organization_id, wallet_id, type) DO UPDATE SET bound = excluded.bound,
       send_bps = excluded.send_bps, receive_bps = excluded.receive_bps, updated_at = excluded.updated_at`,
    [rowsParameter(rows)],
    'set policies',
  );
}

/**
 * Copied from all of the wallet's rows, not from the change: the account then says what they say, whatever it said
 * before. Bounds become msats; one beyond what an account can hold is more than all bitcoin and never binds.
 */
const copyToAccount = (sql: Sql, wallet: PolicyWallet): Promise<unknown> =>
  sql.query(
    `UPDATE accounts a SET own_send_bps = p.send_bps, own_receive_bps = p.receive_bps, max_payment = p.max_payment,
       sends_per_minute = p.sends_per_minute, send_volume = p.send_volume, ofac_compliant = p.ofac_compliant
     FROM (
       SELECT max(least(bound * 1000, ${MAX_BIGINT})) FILTER (WHERE type = 'max_payment_size') AS max_payment,
         max(least(bound, ${MAX_BIGINT})) FILTER (WHERE type = 'transaction_velocity') AS sends_per_minute,
         max(least(bound * 1000, ${MAX_BIGINT})) FILTER (WHERE type = 'send_volume_limit') AS send_volume,
         count(*) FILTER (WHERE type = 'ofac_compliant') > 0 AS ofac_compliant,
         max(send_bps) AS send_bps, max(receive_bps) AS receive_bps
       FROM wallet_policies WHERE organization_id = $1 AND wallet_id = $2
     ) p WHERE a.organization_id = $1 AND a.id = $2`,
    [wallet.organization_id, wallet.id],
    'copy policies to account',
  );
