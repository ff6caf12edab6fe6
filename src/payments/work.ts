import { insertRows, rowsParameter, type Sql } from '../core/db.ts';
import {
  lockWallets,
  newPosting,
  peekWallets,
  post,
  type Posting,
  type WalletAccount,
  type WalletRef,
} from '../ledger/ledger.ts';
import { mayMove, type State } from './states.ts';
import { raiseAttention, type AttentionKind } from './attention.ts';
import { lockPayments, readOutputs, storedPayment, updatePayments } from './store.ts';
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
  /** Locks the accounts of the payments' wallets: for commands that move money. */
  moves_money: boolean;
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
  /** One time for the whole batch would tie its rows; each step gets its own. */
  readonly time: () => string;
  readonly worker: number;
  readonly #payments = new Map<string, Payment>();
  readonly #wallets = new Map<string, WalletAccount>();
  readonly #peeks = new Map<string, WalletAccount>();
  readonly #claimed = new Map<string, KeyClaim>();
  readonly #dropped: KeyClaim[] = [];
  readonly #created: Payment[] = [];
  readonly #changed = new Set<Payment>();
  readonly #history: object[] = [];
  readonly #jobs = new Map<string, { payment: Payment; job: JobChange | null; existed: boolean }>();
  readonly #outputs_changed = new Set<SeenOutput>();
  readonly #outputs_gone = new Set<SeenOutput>();
  readonly #chain_sends: object[] = [];
  readonly #raised: object[] = [];

  constructor(time: () => string, worker: number) {
    this.time = time;
    this.worker = worker;
  }

  /** Locks and reads what the commands need, in the order that every writer keeps: payments, accounts, keys. */
  async load(sql: Sql, commands: readonly Command<unknown>[]): Promise<void> {
    const refs = byKey(
      commands.flatMap((command) => command.payments),
      refKey,
    );
    for (const payment of refs.length > 0 ? await lockPayments(sql, refs) : []) {
      this.#payments.set(refKey(payment), payment);
    }
    await this.#loadWallets(sql, commands);
    await this.#takeClaims(sql, commands);
    const watched = commands.filter((command) => command.outputs).flatMap((command) => command.payments);
    if (watched.length > 0) this.outputs.push(...(await readOutputs(sql, byKey(watched, refKey))));
  }

  async #loadWallets(sql: Sql, commands: readonly Command<unknown>[]): Promise<void> {
    const wanted = commands.flatMap((command) => [
      ...(command.wallets ?? []),
      ...(command.moves_money ? command.payments : []).flatMap((ref) => {
        const payment = this.#payments.get(refKey(ref));
        return payment ? [{ organization_id: payment.organization_id, id: payment.wallet_id }] : [];
      }),
    ]);
    const locked = byKey(wanted, walletKey);
    if (locked.length > 0) {
      for (const account of await lockWallets(sql, locked)) this.#wallets.set(walletKey(account), account);
    }
    const peeks = byKey(
      commands.flatMap((command) => command.peeks ?? []),
      walletKey,
    );
    if (peeks.length > 0) {
      for (const account of await peekWallets(sql, peeks)) this.#peeks.set(walletKey(account), account);
    }
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
    const taken = await sql.query<{ key: string; kind: string; node_id: string }>(
      `INSERT INTO payment_keys (node_id, kind, key, organization_id, environment_id, payment_id, settle_index)
       SELECT node_id, kind, key, organization_id, environment_id, payment_id, settle_index
       FROM json_populate_recordset(NULL::payment_keys, $1)
       ON CONFLICT (key, kind, node_id) DO NOTHING RETURNING key, kind, node_id`,
      [rowsParameter(rows)],
      'claim keys',
    );
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

  /** Moves a payment along the declared table and writes the step into its history. */
  move(payment: Payment, to: State, event_type: string, error?: PaymentError): void {
    if (!mayMove(payment.direction, payment.state, to)) {
      throw new Error(`payment ${payment.id}: no move from ${payment.state} to ${to}`);
    }
    payment.state = to;
    if (error) payment.error = error;
    this.record(payment, event_type, error?.detail);
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

  /** Marks a payment as changed without an event of its history (a claim, a pending output). */
  touch(payment: Payment): void {
    payment.updated_at = this.time();
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

  /** Writes everything, one statement per table. */
  async flush(sql: Sql): Promise<void> {
    await insertRows(sql, 'payments', this.#created.map(storedPayment));
    const created = new Set(this.#created);
    const changed = [...this.#changed].filter((payment) => !created.has(payment));
    if (changed.length > 0) await updatePayments(sql, changed);
    await insertRows(sql, 'payment_history', this.#history);
    await post(sql, this.posting);
    await this.#flushJobs(sql);
    await this.#flushOutputs(sql);
    await insertRows(sql, 'chain_sends', this.#chain_sends);
    if (this.#raised.length > 0) await raiseAttention(sql, this.#raised);
    if (this.#dropped.length > 0) {
      await sql.query(
        `DELETE FROM payment_keys k USING json_to_recordset($1) AS r(key text, kind text, node_id text, id uuid)
         WHERE k.key = r.key AND k.kind = r.kind AND k.node_id = r.node_id AND k.payment_id = r.id`,
        [rowsParameter(this.#dropped)],
        'drop keys',
      );
    }
  }

  async #flushJobs(sql: Sql): Promise<void> {
    const all = [...this.#jobs.values()];
    const rows = all.map(({ payment, job, existed }) => ({
      existed,
      organization_id: payment.organization_id,
      environment_id: payment.environment_id,
      payment_id: payment.id,
      node_id: payment.node_id,
      kind: job?.kind ?? null,
      run_at: job?.run_at ?? null,
      worker: job?.mine ? this.worker : null,
    }));
    const fresh = rows.filter((row) => !row.existed && row.kind);
    await insertRows(
      sql,
      'jobs',
      fresh.map(({ existed: _existed, ...row }) => ({ ...row, attempts: 0 })),
    );
    const later = rows.filter((row) => row.existed && row.kind);
    if (later.length > 0) {
      await sql.query(
        `INSERT INTO jobs (organization_id, environment_id, payment_id, node_id, kind, run_at, worker)
         SELECT organization_id, environment_id, payment_id, node_id, kind, run_at, worker
         FROM json_populate_recordset(NULL::jobs, $1)
         ON CONFLICT (organization_id, environment_id, payment_id)
         DO UPDATE SET kind = excluded.kind, run_at = excluded.run_at, worker = excluded.worker,
           attempts = CASE WHEN jobs.kind = excluded.kind THEN jobs.attempts + 1 ELSE 0 END`,
        [rowsParameter(later)],
        'change jobs',
      );
    }
    const done = rows.filter((row) => row.existed && !row.kind);
    if (done.length > 0) {
      await sql.query(
        `DELETE FROM jobs j USING json_to_recordset($1) AS r(organization_id uuid, environment_id uuid, payment_id uuid)
         WHERE j.organization_id = r.organization_id AND j.environment_id = r.environment_id AND j.payment_id = r.payment_id`,
        [rowsParameter(done)],
        'end jobs',
      );
    }
  }

  async #flushOutputs(sql: Sql): Promise<void> {
    if (this.#outputs_changed.size > 0) {
      await sql.query(
        `INSERT INTO chain_outputs SELECT * FROM json_populate_recordset(NULL::chain_outputs, $1)
         ON CONFLICT (organization_id, environment_id, payment_id, tx_id, vout)
         DO UPDATE SET height = excluded.height, state = excluded.state`,
        [rowsParameter([...this.#outputs_changed])],
        'put outputs',
      );
    }
    if (this.#outputs_gone.size > 0) {
      await sql.query(
        `DELETE FROM chain_outputs o USING json_to_recordset($1)
           AS r(organization_id uuid, environment_id uuid, payment_id uuid, tx_id text, vout integer)
         WHERE o.organization_id = r.organization_id AND o.environment_id = r.environment_id
           AND o.payment_id = r.payment_id AND o.tx_id = r.tx_id AND o.vout = r.vout`,
        [rowsParameter([...this.#outputs_gone])],
        'forget outputs',
      );
    }
  }
}
