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
import { countChanges, openFacts, restingStatus } from './counts.ts';
import { EVENT_AT, mayMove, type State } from './states.ts';
import { raiseAttention, type AttentionKind } from './attention.ts';
import { changeJobs, claimKeys, dropKeys, endJobs, forgetOutputs, putOutputs } from './records.ts';
import { lockPayments, promotePayments, readOutputs, updatePayments } from './store.ts';
import {
  refKey,
  type ChainSend,
  type JobKind,
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
  payments: readonly PaymentRef[];
  /** Wallets to lock besides those of the payments. */
  wallets?: readonly WalletRef[];
  /** Wallets that are only looked at. */
  peeks?: readonly WalletRef[];
  claims?: readonly KeyClaim[];
  /** Quotes to lock. */
  quotes?: readonly QuoteRef[];
  /** Locks the accounts of the payments' wallets: those given, or once the payments are read, a round trip later. */
  moves_money: boolean | readonly WalletRef[];
  /** Loads the chain outputs of the payments. */
  outputs?: boolean;
  decide(work: Work): Result;
}

const claimKey = (claim: { key: string; kind: string; node_id: string }) =>
  `${claim.key}/${claim.kind}/${claim.node_id}`;
const walletKey = (ref: WalletRef) => `${ref.organization_id}/${ref.id}`;
const byKey = <T>(items: readonly T[], keyOf: (item: T) => string): T[] => {
  const unique = new Map(items.map((item) => [keyOf(item), item]));
  return [...unique].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item);
};

export interface JobChange {
  kind: JobKind;
  run_at: string;
  /** Keep it for this process, or let any take it when it is due. */
  mine: boolean;
}

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
  readonly #jobs = new Map<string, { payment: Payment; job: JobChange | null; existed: boolean }>();
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

  /** Locks and reads what the commands need, in the order that every writer keeps: payments, accounts, quotes, keys. */
  async load(sql: Sql, commands: readonly Command<unknown>[]): Promise<void> {
    const refs = byKey(
      commands.flatMap((command) => command.payments),
      refKey,
    );
    const payments = this.#loadPayments(sql, refs);
    // Issued together, run in this order.
    if (commands.some((command) => command.moves_money === true)) await payments;
    await Promise.all([
      payments,
      this.#loadWallets(sql, commands),
      this.#loadQuotes(sql, commands),
      this.#takeClaims(sql, commands),
      this.#loadOutputs(sql, commands),
    ]);
  }

  async #loadPayments(sql: Sql, refs: readonly PaymentRef[]): Promise<void> {
    if (refs.length === 0) return;
    for (const payment of await lockPayments(sql, refs)) {
      this.#payments.set(refKey(payment), payment);
      this.#counted_as.set(payment, restingStatus(payment));
    }
  }

  async #loadOutputs(sql: Sql, commands: readonly Command<unknown>[]): Promise<void> {
    const watched = commands.filter((command) => command.outputs).flatMap((command) => command.payments);
    if (watched.length > 0) this.outputs.push(...(await readOutputs(sql, byKey(watched, refKey))));
  }

  async #loadWallets(sql: Sql, commands: readonly Command<unknown>[]): Promise<void> {
    const wanted = commands.flatMap((command) => [
      ...(command.wallets ?? []),
      ...(typeof command.moves_money === 'boolean' ? [] : command.moves_money),
      ...(command.moves_money === true ? command.payments : []).flatMap((ref) => {
        const payment = this.#payments.get(refKey(ref));
        return payment ? [{ organization_id: payment.organization_id, id: payment.wallet_id }] : [];
      }),
    ]);
    const locked = byKey(wanted, walletKey);
    const peeks = byKey(
      commands.flatMap((command) => command.peeks ?? []),
      walletKey,
    );
    const [wallets, seen] = await Promise.all([
      locked.length > 0 ? lockWallets(sql, locked) : [],
      peeks.length > 0 ? peekWallets(sql, peeks) : [],
    ]);
    for (const account of wallets) this.#wallets.set(walletKey(account), account);
    for (const account of seen) this.#peeks.set(walletKey(account), account);
    // Only who makes sends asks what was sent; under the lock, so that nobody else sends meanwhile.
    const sending = new Set(commands.flatMap((command) => command.wallets ?? []).map(walletKey));
    const accounts = wallets.filter((account) => sending.has(walletKey(account)));
    if (accounts.length > 0) await this.usages.load(sql, accounts, this.time());
  }

  async #loadQuotes(sql: Sql, commands: readonly Command<unknown>[]): Promise<void> {
    const refs = byKey(
      commands.flatMap((command) => command.quotes ?? []),
      refKey,
    );
    if (refs.length === 0) return;
    for (const quote of await lockQuotes(sql, refs)) this.#quotes.set(refKey(quote), quote);
  }

  async #takeClaims(sql: Sql, commands: readonly Command<unknown>[]): Promise<void> {
    const claims = commands.flatMap((command) => command.claims ?? []);
    if (claims.length === 0) return;
    const rows = byKey([...claims].reverse(), claimKey).map((claim) => ({
      node_id: claim.node_id,
      kind: claim.kind,
      key: claim.key,
      organization_id: claim.organization_id,
      environment_id: claim.environment_id,
      payment_id: claim.id,
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

  /** The locked account of a wallet; throws when the command did not ask for it. */
  wallet(organization_id: string, id: string): WalletAccount {
    const account = this.#wallets.get(walletKey({ organization_id, id }));
    if (!account) throw new Error(`wallet ${id} was not locked`);
    return account;
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
    const { organization_id, environment_id, id } = quote;
    quote.consumed_at = this.time();
    this.#consumed.push({
      organization_id,
      environment_id,
      id,
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

  /** Moves a payment along the declared table and writes the step into its history. */
  move(payment: Payment, to: State, event_type: string, error?: PaymentError): void {
    if (!mayMove(payment.direction, payment.state, to)) {
      throw new Error(`payment ${payment.id}: no move from ${payment.state} to ${to}`);
    }
    payment.state = to;
    if (error) payment.error = error;
    this.record(payment, event_type, error?.detail);
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
      organization_id: payment.organization_id,
      environment_id: payment.environment_id,
      payment_id: payment.id,
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

  /** The payment's next job, or none when it has come to rest. */
  job(payment: Payment, job: JobChange | null): void {
    const key = refKey(payment);
    const existed = this.#jobs.get(key)?.existed ?? !this.#created.includes(payment);
    this.#jobs.set(key, { payment, job, existed });
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
    this.#raised.push({
      organization_id: ref.organization_id,
      environment_id: ref.environment_id,
      payment_id: ref.id,
      kind,
      detail,
    });
  }

  /** Stores the signed transaction of an on-chain send. */
  putChainSend(row: ChainSend): void {
    this.#chain_sends.push(row);
  }

  /** Writes everything, one statement per table, all of them on their way at once: the last of the transaction. */
  async flush(sql: Sql): Promise<void> {
    const created = new Set(this.#created);
    const changed = [...this.#changed].filter((payment) => !created.has(payment));
    await Promise.all([
      insertRows(sql, 'payments', this.#created),
      // Before its state is written: a check may hold nothing.
      promotePayments(
        sql,
        this.#promoted.filter((payment) => !created.has(payment)),
      ),
      updatePayments(sql, changed),
      insertRows(
        sql,
        'payment_count_changes',
        countChanges([...this.#created, ...changed], (payment) => this.#counted_as.get(payment) ?? null),
      ),
      insertRows(sql, 'payment_history', this.#history),
      post(sql, this.posting),
      this.usages.flush(sql),
      this.#flushJobs(sql),
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
      organization_id: payment.organization_id,
      environment_id: payment.environment_id,
      payment_id: payment.id,
      wallet_id: payment.wallet_id,
      type: payment.direction,
      event,
      payment,
      at,
    }));
    this.last_event = await insertEvents(sql, rows);
  }

  #flushJobs(sql: Sql): Promise<unknown> {
    const row = ({ payment, job }: { payment: Payment; job: JobChange }) => ({
      organization_id: payment.organization_id,
      environment_id: payment.environment_id,
      payment_id: payment.id,
      node_id: payment.node_id,
      kind: job.kind,
      run_at: job.run_at,
      worker: job.mine ? this.worker : null,
      ...openFacts(payment),
    });
    const entries = [...this.#jobs.values()];
    const next = entries.flatMap(({ payment, job, existed }) => (job ? [{ payment, job, existed }] : []));
    const ended = entries.filter(({ job, existed }) => existed && !job).map(({ payment }) => payment);
    return Promise.all([
      insertRows(sql, 'jobs', next.filter(({ existed }) => !existed).map(row)),
      changeJobs(sql, next.filter(({ existed }) => existed).map(row)),
      endJobs(sql, ended),
    ]);
  }
}
