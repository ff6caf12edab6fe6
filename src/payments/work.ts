import { insertRows, type Sql } from '../core/db.ts';
import { insertEvents } from '../core/events.ts';
import {
  lockWallets,
  newPosting,
  peekWallets,
  post,
  type Posting,
  type WalletAccount,
  type WalletRef,
} from '../ledger/ledger.ts';
import { createUsages } from '../policies/usage.ts';
import {
  consumeQuotes,
  lockQuotes,
  type Consumption,
  type QuoteRef,
  type StoredQuote,
} from '../quotes/consume.ts';
import { countChanges, restingStatus } from './counts.ts';
import { EVENT_AT, isAtRest, mayMove, type State } from './states.ts';
import {
  attentionRow,
  claimKeys,
  dropKeys,
  forgetOutputs,
  putJobs,
  putOutputs,
  raiseAttention,
  type AttentionKind,
  type JobChange,
} from './records.ts';
import { lockPayments, promotePayments, readOutputs, updatePayments } from './store.ts';
import {
  refKey,
  refOf,
  rowOf,
  walletKey,
  type ChainSend,
  type JobKind,
  type OwnedRef,
  type Payment,
  type PaymentError,
  type PaymentRef,
  type SeenOutput,
} from './types.ts';

/** A row of `payment_keys` to take: whoever takes it first has it, across organizations and servers. */
export interface KeyClaim extends PaymentRef {
  node_id: string;
  kind: 'invoice' | 'address' | 'send' | 'credit';
  key: string;
  settle_index?: bigint;
}

/**
 * One command of a batch: what it needs locked, and a pure rule that decides it on what was read.
 * A rule that refuses throws before it changes anything.
 */
export interface Command<Result> {
  payments: readonly OwnedRef[];
  /** Wallets to lock besides those of the payments. */
  wallets?: readonly WalletRef[];
  /** Wallets that are only looked at. */
  peeks?: readonly WalletRef[];
  claims?: readonly KeyClaim[];
  /** Quotes to lock. */
  quotes?: readonly QuoteRef[];
  /** Locks the accounts of the payments' wallets; where a reference does not name its wallet, a round trip later. */
  moves_money: boolean;
  /** Loads the chain outputs of the payments. */
  outputs?: boolean;
  decide(work: Work): Result;
}

const claimKey = (claim: { key: string; kind: string; node_id: string }) =>
  `${claim.key}/${claim.kind}/${claim.node_id}`;
const byKey = <T>(items: readonly T[], keyOf: (item: T) => string): T[] => {
  const unique = new Map(items.map((item) => [keyOf(item), item]));
  return [...unique].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item);
};

/** What the history says of a payment that comes into a state; nothing here where it has the state's own name. */
const STEP_INTO: Partial<Record<State, string>> = {
  approved: 'held',
  claiming: 'held',
  receiving: 'generated',
};

/** Everything that one batch read under lock and will write: decided in memory, written at once. */
export class Work {
  readonly posting: Posting = newPosting();
  readonly outputs: SeenOutput[] = [];
  /** What the wallets that make sends have sent lately, this batch included. */
  readonly usages = createUsages();
  /** One time for the whole batch would tie its rows; each step gets its own. */
  readonly time: () => string;
  readonly worker: number;
  readonly #payments = new Map<string, Payment>();
  readonly #wallets = new Map<string, WalletAccount>();
  readonly #peeks = new Map<string, WalletAccount>();
  readonly #claimed = new Map<string, KeyClaim>();
  readonly #quotes = new Map<string, StoredQuote>();
  readonly #consumed: Consumption[] = [];
  readonly #dropped: KeyClaim[] = [];
  readonly #created: Payment[] = [];
  readonly #promoted: Payment[] = [];
  readonly #changed = new Set<Payment>();
  /** As what each payment was counted when it was read. */
  readonly #counted_as = new Map<Payment, string | null>();
  readonly #history: object[] = [];
  readonly #jobs = new Map<string, JobChange>();
  readonly #outputs_changed = new Set<SeenOutput>();
  readonly #outputs_gone = new Set<SeenOutput>();
  readonly #chain_sends: object[] = [];
  readonly #raised: object[] = [];
  readonly #events: { payment: Payment; event: string; at: string }[] = [];
  /** The highest number of an event that was written; 0 when there was none. */
  last_event = 0n;

  constructor(time: () => string, worker: number) {
    this.time = time;
    this.worker = worker;
  }

  /**
   * Locks and reads what the commands need, in the order that every writer keeps: payments, accounts, quotes, keys. So
   * two batches, here or on two servers, wait for each other in one direction only.
   */
  async load(sql: Sql, commands: readonly Command<unknown>[]): Promise<void> {
    type Pick<T> = (command: Command<unknown>) => readonly T[] | undefined;
    const all = <T>(pick: Pick<T>): T[] => commands.flatMap((command) => pick(command) ?? []);
    const each = <T>(keyOf: (item: T) => string, pick: Pick<T>): T[] => byKey(all(pick), keyOf);
    const refs = each(refKey, (command) => command.payments);
    const owned = all((command) => (command.moves_money ? command.payments : []));
    const sending = all((command) => command.wallets);
    const peeks = each(walletKey, (command) => command.peeks);
    const quotes = each(refKey, (command) => command.quotes);
    const claims = all((command) => command.claims);
    const watched = each(refKey, (command) => (command.outputs ? command.payments : []));
    const payments = this.#loadPayments(sql, refs);
    if (owned.some(({ wallet_id }) => wallet_id === undefined)) await payments;
    const owners = owned.flatMap((ref) => this.#ownerOf(ref) ?? []);
    // Issued together, run in this order.
    await Promise.all([
      payments,
      this.#loadWallets(sql, byKey([...sending, ...owners], walletKey), peeks, sending),
      this.#loadQuotes(sql, quotes),
      this.#takeClaims(sql, claims),
      this.#loadOutputs(sql, watched),
    ]);
  }

  async #loadPayments(sql: Sql, refs: readonly PaymentRef[]): Promise<void> {
    if (refs.length === 0) return;
    for (const payment of await lockPayments(sql, refs)) {
      this.#payments.set(refKey(payment), payment);
      this.#counted_as.set(payment, restingStatus(payment));
    }
  }

  /** The wallet of a payment: named by who asks, or known once the payment is read; undefined where there is none. */
  #ownerOf(ref: OwnedRef): WalletRef | undefined {
    const id = ref.wallet_id ?? this.payment(ref)?.wallet_id;
    return id === undefined ? undefined : { organization_id: ref.organization_id, id };
  }

  async #loadWallets(
    sql: Sql,
    locked: readonly WalletRef[],
    peeks: readonly WalletRef[],
    sending: readonly WalletRef[],
  ): Promise<void> {
    const [wallets, seen] = await Promise.all([
      locked.length > 0 ? lockWallets(sql, locked) : [],
      peeks.length > 0 ? peekWallets(sql, peeks) : [],
    ]);
    for (const account of wallets) this.#wallets.set(walletKey(account), account);
    for (const account of seen) this.#peeks.set(walletKey(account), account);
    // Only who makes sends asks what was sent; under the lock, so that nobody else sends meanwhile.
    const senders = new Set(sending.map(walletKey));
    const accounts = wallets.filter((account) => senders.has(walletKey(account)));
    if (accounts.length > 0) await this.usages.load(sql, accounts, this.time());
  }

  async #loadQuotes(sql: Sql, refs: readonly QuoteRef[]): Promise<void> {
    if (refs.length === 0) return;
    for (const quote of await lockQuotes(sql, refs)) this.#quotes.set(refKey(quote), quote);
  }

  async #loadOutputs(sql: Sql, refs: readonly PaymentRef[]): Promise<void> {
    if (refs.length > 0) this.outputs.push(...(await readOutputs(sql, refs)));
  }

  async #takeClaims(sql: Sql, claims: readonly KeyClaim[]): Promise<void> {
    if (claims.length === 0) return;
    // Of two claims on one key the earlier command's is sent, and has it: `byKey` keeps the last of its list.
    const rows = byKey([...claims].reverse(), claimKey).map((claim) => ({
      ...rowOf(claim),
      node_id: claim.node_id,
      kind: claim.kind,
      key: claim.key,
      settle_index: claim.settle_index ?? null,
    }));
    const taken = await claimKeys(sql, rows);
    const free = new Set(taken.map(claimKey));
    for (const claim of claims) {
      if (free.delete(claimKey(claim))) this.#claimed.set(claimKey(claim), claim);
    }
  }

  payment(ref: PaymentRef): Payment | undefined {
    return this.#payments.get(refKey(ref));
  }

  /** The locked account of a payment's wallet; throws when the command did not ask for it. */
  wallet({ organization_id, wallet_id }: Payment): WalletAccount {
    const account = this.#wallets.get(walletKey({ organization_id, id: wallet_id }));
    if (!account) throw new Error(`wallet ${wallet_id} was not locked`);
    return account;
  }

  /** What a movement of a payment's money says of itself. */
  reason(payment: Payment): { payment_id: string; at: string } {
    return { payment_id: payment.id, at: this.time() };
  }

  /** A wallet's account as seen, locked or not; undefined when there is none. */
  look(ref: WalletRef): WalletAccount | undefined {
    return this.#wallets.get(walletKey(ref)) ?? this.#peeks.get(walletKey(ref));
  }

  /** A locked quote; undefined when there is none, or the command did not ask for it. */
  quote(ref: QuoteRef): StoredQuote | undefined {
    return this.#quotes.get(refKey(ref));
  }

  /** Marks the quote of a payment as used: for the next command of the batch, too. */
  consumeQuote(payment: Payment): void {
    if (payment.quote_id === null) return;
    const quote = this.quote({ ...payment, id: payment.quote_id });
    if (!quote) throw new Error(`quote ${payment.quote_id} was not locked`);
    quote.consumed_at = this.time();
    this.#consumed.push({
      ...refOf(quote),
      payment_id: payment.id,
      wallet_id: payment.wallet_id,
      consumed_at: quote.consumed_at,
    });
  }

  /** True when this very command's claim took the key. */
  holdsClaim(claim: KeyClaim): boolean {
    return this.#claimed.get(claimKey(claim)) === claim;
  }

  /** Gives a key back: it was taken now for something refused, or earlier for a send that failed. */
  dropClaim(claim: KeyClaim): void {
    this.#claimed.delete(claimKey(claim));
    this.#dropped.push(claim);
  }

  create(payment: Payment): void {
    this.#payments.set(refKey(payment), payment);
    this.#created.push(payment);
  }

  /** A check becomes a payment: its story goes on. */
  promote(payment: Payment): void {
    payment.check_only = false;
    payment.promoted_at = this.time();
    this.#promoted.push(payment);
  }

  /**
   * Moves a payment along the declared table, writes the step into its history and tells of it. One that comes to rest
   * has no job any more, unless it is given one after this.
   */
  move(payment: Payment, to: State, error?: PaymentError): void {
    if (!mayMove(payment.direction, payment.state, to)) {
      throw new Error(`payment ${payment.id}: no move from ${payment.state} to ${to}`);
    }
    payment.state = to;
    if (error) payment.error = error;
    if (isAtRest(payment)) this.job(payment, null);
    this.record(payment, STEP_INTO[to] ?? to, error?.detail);
    const event = EVENT_AT[payment.direction][to];
    if (event !== undefined) this.tell(payment, event);
  }

  /** Tells webhooks and streams, with the payment as this work leaves it. A check is no payment: nobody hears of it. */
  tell(payment: Payment, event: string): void {
    // Not the payment's own time: that is of the last step of its history, which may be long ago.
    if (!payment.check_only) this.#events.push({ payment, event, at: this.time() });
  }

  /** Adds a history event and touches the payment. */
  record(payment: Payment, event_type: string, error?: string): void {
    payment.last_position += 1;
    payment.updated_at = this.time();
    this.#changed.add(payment);
    this.#history.push({
      ...rowOf(payment),
      position: payment.last_position,
      event_type,
      error: error ?? null,
      at: payment.updated_at,
    });
  }

  /** Marks a payment as changed without an event of its history: its time stays that of the last event. */
  touch(payment: Payment): void {
    this.#changed.add(payment);
  }

  /**
   * The payment's next job, which is due at once or at `run_at`; null: none. There is one job a payment, and whoever
   * sets it last in a batch has the say.
   */
  job(payment: Payment, kind: JobKind | null, run_at = payment.created_at): void {
    const key = refKey(payment);
    const existed = this.#jobs.get(key)?.existed ?? !this.#created.includes(payment);
    this.#jobs.set(key, { payment, kind, run_at, existed });
  }

  putOutput(output: SeenOutput): void {
    if (!this.outputs.includes(output)) this.outputs.push(output);
    this.#outputs_changed.add(output);
  }

  forgetOutput(output: SeenOutput): void {
    this.#outputs_gone.add(output);
    this.#outputs_changed.delete(output);
    this.outputs.splice(this.outputs.indexOf(output), 1);
  }

  /** Puts a payment before a human; once as long as it is open. */
  raise(ref: PaymentRef, kind: AttentionKind, detail: object): void {
    this.#raised.push(attentionRow(ref, kind, detail));
  }

  /** Stores the signed transaction of an on-chain send. */
  putChainSend(row: ChainSend): void {
    this.#chain_sends.push(row);
  }

  /** Writes everything, one statement per table, all of them on their way at once: the last of the transaction. */
  async flush(sql: Sql): Promise<void> {
    const created = new Set(this.#created);
    const changed = [...this.#changed].filter((payment) => !created.has(payment));
    const promoted = this.#promoted.filter((payment) => !created.has(payment));
    const counts = countChanges(
      [...this.#created, ...changed],
      (payment) => this.#counted_as.get(payment) ?? null,
    );
    await Promise.all([
      insertRows(sql, 'payments', this.#created),
      // Before its state is written: a check may hold nothing.
      promotePayments(sql, promoted),
      updatePayments(sql, changed),
      insertRows(sql, 'payment_count_changes', counts),
      insertRows(sql, 'payment_history', this.#history),
      post(sql, this.posting),
      this.usages.flush(sql),
      putJobs(sql, [...this.#jobs.values()], this.worker),
      putOutputs(sql, [...this.#outputs_changed]),
      forgetOutputs(sql, [...this.#outputs_gone]),
      insertRows(sql, 'chain_sends', this.#chain_sends),
      raiseAttention(sql, this.#raised),
      dropKeys(sql, this.#dropped),
      this.#flushEvents(sql),
      consumeQuotes(sql, this.#consumed),
    ]);
  }

  async #flushEvents(sql: Sql): Promise<void> {
    const rows = this.#events.map(({ payment, event, at }) => ({
      ...rowOf(payment),
      wallet_id: payment.wallet_id,
      type: payment.direction,
      event,
      payment,
      at,
    }));
    this.last_event = await insertEvents(sql, rows);
  }
}
