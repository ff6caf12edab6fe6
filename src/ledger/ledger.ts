import { insertRows, rowsParameter, type Sql } from '../core/db.ts';
import { newId } from '../core/ids.ts';
import { nodeAccountId, RAIL_CURRENCY, type NodeAccountKind } from './accounts.ts';

// The only code that changes a balance. All of it is decided in memory on accounts that are locked, and written by
// `post` in the same transaction as what it is for. An overdraft that slipped through would be refused by the
// database (`wallet_floor`).

/** A wallet's account while its row is locked. Amounts in base units of `currency`. */
export interface WalletAccount {
  organization_id: string;
  id: string;
  environment_id: string;
  node_id: string;
  currency: string;
  limit: bigint;
  total: bigint;
  held: bigint;
  line_disabled: boolean;
  deleted_at: string | null;
  /** Processing fees in basis points: the line's, and the wallet's own where it has some. */
  line_send_bps: number;
  line_receive_bps: number;
  own_send_bps: number | null;
  own_receive_bps: number | null;
  /** What its policies allow, null where they say nothing: msats of one payment, sends in 60 s, msats in 24 h. */
  max_payment: bigint | null;
  sends_per_minute: bigint | null;
  send_volume: bigint | null;
  ofac_compliant: boolean;
}

/** Names one wallet: ids are unique per organization. */
export interface WalletRef {
  organization_id: string;
  id: string;
}

/**
 * What a batch writes to the ledger, collected while its commands are decided in memory. The functions below change the
 * locked accounts at once, so that the next command of the batch sees it; nothing is stored before `post`.
 */
export type Posting = ReturnType<typeof newPosting>;

/** An empty posting: each batch has its own. */
export const newPosting = () => ({
  touched: new Map<WalletAccount, string>(),
  transfers: [] as object[],
  events: [] as object[],
  holds: [] as object[],
  ended_holds: [] as object[],
});

/** What a movement says of itself. */
export interface Reason {
  /** The payment that moves the money; null for an operator's deposit or withdrawal. */
  payment_id: string | null;
  /** RFC 3339 with microseconds. */
  at: string;
}

/** The other side of a movement: another wallet, or one of the accounts of a node in the same organization. */
export type Counterpart = { wallet: WalletAccount } | { node_id: string; kind: NodeAccountKind };

/** total - holds + limit: what can still be spent; never below 0 (`wallet_floor` in the database). */
export const availableOf = (account: WalletAccount): bigint => account.total - account.held + account.limit;

function event(
  posting: Posting,
  account: WalletAccount,
  type: string,
  event_id: string,
  amount: bigint,
  reason: Reason,
  fees: Partial<Cost> = {},
): void {
  posting.events.push({
    organization_id: account.organization_id,
    wallet_id: account.id,
    effective_time: reason.at,
    type,
    event_id,
    payment_id: reason.payment_id,
    currency: account.currency,
    amount,
    network_fee: fees.network_fee ?? 0n,
    processing_fee: fees.processing_fee ?? 0n,
  });
  posting.touched.set(account, reason.at);
}

const ownAccount = (account: WalletAccount, kind: NodeAccountKind, currency: string): string =>
  nodeAccountId(account.organization_id, account.node_id, kind, currency);

/** Where a wallet meets the rail: its bitcoin is its own, its dollars are exchanged by the operator. */
const railAccount = (account: WalletAccount): string =>
  account.currency === RAIL_CURRENCY ? account.id : ownAccount(account, 'exchange', RAIL_CURRENCY);

/** The other side's account; without one, the wallet's own on the rail. */
function counterAccount(account: WalletAccount, other: Counterpart | null): string {
  if (other === null) return railAccount(account);
  if ('wallet' in other) return railAccount(other.wallet);
  return nodeAccountId(account.organization_id, other.node_id, other.kind, RAIL_CURRENCY);
}

/**
 * Records `amount` (base units of `currency`, not negative) from one account to another of the same organization;
 * nothing for 0 or to itself. Changes no wallet's total: who calls it for a wallet does.
 */
export function transfer(
  posting: Posting,
  move: { organization_id: string; from: string; to: string; currency: string; amount: bigint; kind: string },
  reason: Reason,
): void {
  if (move.amount === 0n || move.from === move.to) return;
  posting.transfers.push({
    organization_id: move.organization_id,
    from_account: move.from,
    to_account: move.to,
    currency: move.currency,
    amount: move.amount,
    kind: move.kind,
    payment_id: reason.payment_id,
    at: reason.at,
  });
}

/** `transfer` within an account's organization, for one reason. */
const mover =
  (posting: Posting, { organization_id }: WalletAccount, reason: Reason) =>
  (from: string, to: string, amount: bigint, kind: string, currency = RAIL_CURRENCY): void =>
    transfer(posting, { organization_id, from, to, currency, amount, kind }, reason);

/**
 * Reserves `amount`, in base units of the wallet's currency. Answers the hold's id, or null when less than that is
 * available or it is negative: then nothing has changed.
 */
export function hold(
  posting: Posting,
  account: WalletAccount,
  amount: bigint,
  reason: Reason,
): string | null {
  if (amount < 0n || availableOf(account) < amount) return null;
  const id = newId();
  account.held += amount;
  event(posting, account, 'held', id, amount, reason);
  posting.holds.push({
    organization_id: account.organization_id,
    wallet_id: account.id,
    id,
    payment_id: reason.payment_id,
    amount,
    effective_time: reason.at,
  });
  return id;
}

/** A hold as its payment remembers it; `held` in base units of the wallet's currency. */
export interface HeldFunds {
  hold_id: string;
  held: bigint;
}

function endHold(posting: Posting, account: WalletAccount, funds: HeldFunds): void {
  if (account.held < funds.held)
    throw new Error(`wallet ${account.id} holds less than hold ${funds.hold_id}`);
  account.held -= funds.held;
  posting.ended_holds.push({
    organization_id: account.organization_id,
    wallet_id: account.id,
    id: funds.hold_id,
  });
}

/** What a payment takes from its wallet, each part in base units of the currency that its use names. */
export interface Cost {
  principal: bigint;
  network_fee: bigint;
  processing_fee: bigint;
}

/**
 * Takes the real cost (the wallet's currency) out of a hold and frees the rest. Principal goes to `to`; the network
 * fee leaves through network_fees to the same side, the processing fee stays with the operator. `rail` (msats) says
 * what moves in bitcoin where the wallet holds dollars: those go to the operator's exchange, and its bitcoin goes
 * out. Throws when the cost exceeds what was held: that is never written.
 */
export function capture(
  posting: Posting,
  account: WalletAccount,
  funds: HeldFunds,
  { cost, rail }: { cost: Cost; rail: Omit<Cost, 'processing_fee'> },
  to: Counterpart,
  reason: Reason,
): void {
  const amount = cost.principal + cost.network_fee + cost.processing_fee;
  if (amount > funds.held) throw new Error(`capture of ${amount} exceeds the hold of ${funds.held}`);
  endHold(posting, account, funds);
  account.total -= amount;
  event(posting, account, 'captured', funds.hold_id, amount, reason, cost);
  const { currency } = account;
  const move = mover(posting, account, reason);
  const through = railAccount(account);
  if (through !== account.id) {
    const dollars = cost.principal + cost.network_fee;
    move(account.id, ownAccount(account, 'exchange', currency), dollars, 'exchanged', currency);
  }
  const counter = counterAccount(account, to);
  const network_fees = ownAccount(account, 'network_fees', RAIL_CURRENCY);
  move(through, counter, rail.principal, 'captured');
  move(through, network_fees, rail.network_fee, 'network_fee');
  move(network_fees, counter, rail.network_fee, 'network_fee');
  const processing_fees = ownAccount(account, 'processing_fees', currency);
  move(account.id, processing_fees, cost.processing_fee, 'processing_fee', currency);
}

/** Frees a hold whole: nothing was spent. Throws when the wallet holds less than that: a fault of ours. */
export function release(posting: Posting, account: WalletAccount, funds: HeldFunds, reason: Reason): void {
  endHold(posting, account, funds);
  event(posting, account, 'released', funds.hold_id, funds.held, reason);
}

/** Money that comes to a wallet: the credit and the processing fee in its currency, and what came on the rail. */
export interface Income {
  amount: bigint;
  processing_fee: bigint;
  rail_msats: bigint;
}

/**
 * Adds income to a wallet; answers the credit's id. `from` is where the money came in; null when the
 * transfer was already written by the paying side (an internal payment within one organization). Refuses nothing: money
 * that came is the wallet's, whatever its limit or state.
 */
export function credit(
  posting: Posting,
  account: WalletAccount,
  income: Income,
  from: Counterpart | null,
  reason: Reason,
): string {
  const id = newId();
  const { amount, processing_fee } = income;
  account.total += amount;
  event(posting, account, 'credited', id, amount, reason, { processing_fee });
  const { currency } = account;
  const move = mover(posting, account, reason);
  const through = railAccount(account);
  move(counterAccount(account, from), through, income.rail_msats, 'credited');
  if (through !== account.id) {
    const exchange = ownAccount(account, 'exchange', currency);
    move(exchange, account.id, amount + processing_fee, 'exchanged', currency);
  }
  const fees = ownAccount(account, 'processing_fees', currency);
  move(account.id, fees, processing_fee, 'processing_fee', currency);
  return id;
}

/**
 * Sets msats aside that came in for a wallet of dollars and cannot be exchanged now: nobody's but the wallet's, and
 * no part of its balance. `from` as for `credit`.
 */
export function suspend(
  posting: Posting,
  account: WalletAccount,
  amount: bigint,
  from: Counterpart | null,
  reason: Reason,
): void {
  const suspense = ownAccount(account, 'suspense', RAIL_CURRENCY);
  mover(posting, account, reason)(counterAccount(account, from), suspense, amount, 'suspended');
}

/**
 * Hands msats that were set aside to the operator's exchange (`to` null), or back to where the chain took them from.
 * Who calls it knows how many are set aside: the audit would find more.
 */
export function resume(
  posting: Posting,
  account: WalletAccount,
  amount: bigint,
  to: Counterpart | null,
  reason: Reason,
): void {
  const suspense = ownAccount(account, 'suspense', RAIL_CURRENCY);
  mover(posting, account, reason)(suspense, counterAccount(account, to), amount, 'resumed');
}

/** Puts operator's capital into a wallet; `amount` in base units of its currency. */
export function deposit(posting: Posting, account: WalletAccount, amount: bigint, reason: Reason): void {
  account.total += amount;
  event(posting, account, 'deposited', newId(), amount, reason);
  const capital = ownAccount(account, 'capital', account.currency);
  mover(posting, account, reason)(capital, account.id, amount, 'deposited', account.currency);
}

/** Takes money (base units of its currency) out of a wallet into capital; false when less is available. */
export function withdraw(posting: Posting, account: WalletAccount, amount: bigint, reason: Reason): boolean {
  if (availableOf(account) < amount) return false;
  account.total -= amount;
  event(posting, account, 'withdrawn', newId(), amount, reason);
  const capital = ownAccount(account, 'capital', account.currency);
  mover(posting, account, reason)(account.id, capital, amount, 'withdrawn', account.currency);
  return true;
}

// Stryker disable all: SQL, judged by the tests against PostgreSQL.

const WALLET_COLUMNS = `a.organization_id, a.id, a.environment_id, a.node_id, a.currency, a."limit", a.total, a.held,
  a.line_disabled, a.deleted_at, a.line_send_bps, a.line_receive_bps, a.own_send_bps, a.own_receive_bps,
  a.max_payment, a.sends_per_minute, a.send_volume, a.ofac_compliant`;

const readWallets = (lock: string) => `
  SELECT ${WALLET_COLUMNS}
  FROM json_to_recordset($1) AS r(organization_id uuid, id uuid)
  JOIN accounts a ON a.organization_id = r.organization_id AND a.id = r.id AND a.kind = 'wallet'
  ORDER BY a.organization_id, a.id ${lock}`;

/**
 * Reads and locks wallets' accounts until the transaction ends, in id order, so that no two transactions wait for each
 * other; a wallet that does not exist is left out.
 */
export const lockWallets = (sql: Sql, refs: readonly WalletRef[]): Promise<WalletAccount[]> =>
  sql.query<WalletAccount>(readWallets('FOR NO KEY UPDATE OF a'), [rowsParameter(refs)], 'lock wallets');

/** The same without a lock, for what only looks at them. */
export const peekWallets = (sql: Sql, refs: readonly WalletRef[]): Promise<WalletAccount[]> =>
  sql.query<WalletAccount>(readWallets(''), [rowsParameter(refs)], 'peek wallets');

async function postBalances(sql: Sql, posting: Posting): Promise<void> {
  if (posting.touched.size === 0) return;
  const balances = [...posting.touched].map(([account, at]) => ({
    organization_id: account.organization_id,
    id: account.id,
    total: account.total,
    held: account.held,
    updated_at: at,
  }));
  await sql.query(
    `UPDATE accounts a SET total = r.total, held = r.held, updated_at = r.updated_at
     FROM json_to_recordset($1) AS r(organization_id uuid, id uuid, total bigint, held bigint, updated_at timestamptz)
     WHERE a.organization_id = r.organization_id AND a.id = r.id`,
    [rowsParameter(balances)],
    'post balances',
  );
}

async function endHolds(sql: Sql, holds: readonly object[]): Promise<void> {
  if (holds.length === 0) return;
  await sql.query(
    `DELETE FROM holds h USING json_to_recordset($1) AS r(organization_id uuid, wallet_id uuid, id uuid)
     WHERE h.organization_id = r.organization_id AND h.wallet_id = r.wallet_id AND h.id = r.id`,
    [rowsParameter(holds)],
    'end holds',
  );
}

/** Writes all of a posting with one statement per table. Call inside the transaction that locked the wallets. */
export async function post(sql: Sql, posting: Posting): Promise<void> {
  await Promise.all([
    postBalances(sql, posting),
    insertRows(sql, 'transfers', posting.transfers),
    insertRows(sql, 'ledger_events', posting.events),
    insertRows(sql, 'holds', posting.holds),
    endHolds(sql, posting.ended_holds),
  ]);
}
