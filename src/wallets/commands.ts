import { sqlState, type Database, type Sql } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import type { Caller } from '../core/http.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { lockWallets } from '../ledger/ledger.ts';
import { lockLine, type LineOfCredit } from '../ledger/lines.ts';
import type { LightningNode } from '../lightning/node.ts';
import { checkEmpty, checkLine, checkRequest, firstLine, invalidFields, type NewWallet } from './rules.ts';
import { bringLine, deleteWallet, findWallet, hasOpenReceive, insertWallet, isIdUsed } from './store.ts';

// Making and ending wallets. A line is locked before the accounts on it, here and wherever a line is changed, so that
// two of them never wait for each other; under that lock the sum of its wallets' limits cannot change meanwhile.

export interface WalletDeps {
  db: Database;
  nodes: ReadonlyMap<string, LightningNode>;
  /** The time of a change, RFC 3339 with microseconds. */
  time: () => string;
}

/** The 404 of a wallet, the same for one that does not exist and for one of another tenant or environment. */
export const walletNotFound = (wallet_id: string): ApiError =>
  new ApiError('instance_not_found', `no wallet ${wallet_id}`, { context: { wallet_id } });

const idUsed = (id: string): ApiError => invalidFields(['id'], `the id ${id} is used already`);

const UNIQUE_VIOLATION = '23505';

/** Creates a wallet, and its line where it is the first of a staging environment, in one transaction. */
export async function createWallet(
  { db, nodes, time }: WalletDeps,
  caller: Caller,
  wallet: NewWallet,
): Promise<void> {
  checkRequest(wallet, nodes);
  try {
    await db.transaction(async (sql) => {
      const found = await lineOf(sql, wallet);
      // Before the line is judged: a repeated request must not hear that its first one used up the limit.
      if (await isIdUsed(sql, wallet)) throw idUsed(wallet.id);
      const line = found ?? (await broughtLine(sql, caller, wallet, nodes));
      checkLine(line, wallet, nodes);
      await insertWallet(sql, wallet, line, time());
    });
  } catch (error) {
    // Two requests with one id on two lines lock nothing in common.
    throw sqlState(error) === UNIQUE_VIOLATION ? idUsed(wallet.id) : error;
  }
}

const lineOf = (
  sql: Sql,
  wallet: EnvironmentRef & { line_of_credit_id: string },
): Promise<LineOfCredit | null> =>
  lockLine(sql, wallet.organization_id, wallet.line_of_credit_id, wallet.environment_id);

async function broughtLine(
  sql: Sql,
  caller: Caller,
  wallet: NewWallet,
  nodes: ReadonlyMap<string, LightningNode>,
): Promise<LineOfCredit> {
  const line = firstLine(wallet, caller.environment_kind, nodes);
  if (line && (await bringLine(sql, line))) return line;
  // Two first wallets that name the same line: the other one brought it while this one waited.
  const now_there = line && (await lineOf(sql, wallet));
  if (now_there) return now_there;
  throw new ApiError('line_of_credit_not_found', `no line of credit ${wallet.line_of_credit_id}`);
}

/** Deletes a wallet that is empty. Repeating it is harmless: what was asked for is so already. */
export async function removeWallet(
  { db, time }: WalletDeps,
  wallet: EnvironmentRef & { id: string },
): Promise<void> {
  const known = await findWallet(db, wallet);
  if (!known) throw walletNotFound(wallet.id);
  if (known.deleted_at !== null) return;
  // Looked up before anything is locked, since a wallet may have many payments. A receive that is made in
  // between loses nothing: money that comes to a deleted wallet is credited.
  const open_receive = await hasOpenReceive(db, wallet);
  const { organization_id, id } = wallet;
  const { line_of_credit_id } = known;
  await db.transaction(async (sql) => {
    await lineOf(sql, { ...wallet, line_of_credit_id });
    // Payments lock the account, not the line: from here on its total and holds stand still.
    const [account] = await lockWallets(sql, [{ organization_id, id }]);
    // Another request deleted it since it was looked up.
    if (!account || account.deleted_at !== null) return;
    const { total, held, limit } = account;
    checkEmpty(id, { total, held, open_receive });
    await deleteWallet(sql, { organization_id, id, line_of_credit_id, limit, at: time() });
  });
}
