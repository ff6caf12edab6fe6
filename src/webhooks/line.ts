import type { DueDelivery } from './queue.ts';
import type { Webhook } from './store.ts';

/** How one registration is reached now: its secrets open. */
export interface Receiver extends Pick<
  Webhook,
  'url' | 'secret' | 'previous_secret' | 'failing_since' | 'failing_at'
> {
  allow_private: boolean;
}

/** Requests under way to one registration from one process; few while it only fails. */
const AT_ONCE = 32;
const AT_ONCE_FAILING = 4;
/** Deliveries that wait in memory per registration; the rest waits in the database. */
export const MAX_HELD = 500;
/** Below this, more are read. */
const LOW = 100;
/** So many are looked at when the message of one is read: theirs are read along. */
const AHEAD = 24;
/** Attempts that are made and not recorded yet: beyond, the database is behind and sending more would only repeat. */
const MAX_UNRECORDED = 2000;

/**
 * The queue of one registration in one process, in the order of events. A payment's deliveries go one after the
 * other; nothing else waits for anything, so that no receiver is held up by another, nor by one that it fails on.
 *
 * It decides and does nothing: courier fills it, sender empties it. Its one difficulty is that answers of the database
 * are older than what happened here meanwhile; `ask`, `answered`, `doubt` and `forget` are about that.
 */
export class Line {
  readonly key: string;
  receiver: Receiver;
  /** When the next one in the database is due, milliseconds; infinite when nothing is known. */
  due_ms = Number.POSITIVE_INFINITY;
  /** Deliveries that ended since the database was last asked: its answer may be older. */
  readonly #ended = new Set<string>();
  #complete = false;
  #doubts = 0;
  readonly #queue: DueDelivery[] = [];
  /** Where what waits begins: what was taken is cut off now and then, not each time. */
  #head = 0;
  /** Deliveries that wait, are under way or are being recorded. */
  readonly #known = new Set<string>();
  /** Payments that have an attempt under way, with their next deliveries. */
  readonly #busy = new Map<string, DueDelivery[]>();
  #under_way = 0;

  constructor(key: string, receiver: Receiver) {
    this.key = key;
    this.receiver = receiver;
  }

  get held(): number {
    return this.#known.size;
  }
  get waiting(): number {
    return this.#queue.length - this.#head;
  }
  get idle(): boolean {
    return this.#known.size === 0;
  }
  /** All that is due is in memory: what comes next may be appended without asking the database. */
  get complete(): boolean {
    return this.#complete;
  }
  get wants_more(): boolean {
    return !this.#complete && this.waiting < LOW;
  }

  /** Something is due that is not in memory; an answer of the database that is under way may not hold it either. */
  doubt(): void {
    this.#complete = false;
    this.#doubts += 1;
  }
  /** The database is asked what is due now; give the result to `answered`. */
  ask(): number {
    this.#ended.clear();
    return this.#doubts;
  }
  /** Its answer is in memory, `whole` when there is no more of it. */
  answered(asked: number, whole: boolean): void {
    this.#complete = whole && asked === this.#doubts;
  }

  /** Appends a delivery that is not known yet; false when the line is full. */
  add(delivery: DueDelivery): boolean {
    const { id } = delivery;
    if (this.#known.has(id) || this.#ended.has(id)) return true;
    if (this.#known.size >= MAX_HELD + MAX_UNRECORDED || this.waiting >= MAX_HELD) return false;
    this.#known.add(id);
    this.#queue.push(delivery);
    return true;
  }

  /** The next delivery that may be sent now, or null. */
  take(at_once = AT_ONCE): DueDelivery | null {
    const most = Math.min(at_once, this.receiver.failing_since === null ? AT_ONCE : AT_ONCE_FAILING);
    while (this.#under_way < most && this.waiting > 0 && this.#known.size - this.waiting < MAX_UNRECORDED) {
      const delivery = this.#queue[this.#head] as DueDelivery;
      this.#head += 1;
      if (this.#head > MAX_HELD) {
        this.#queue.splice(0, this.#head);
        this.#head = 0;
      }
      const { payment_id } = delivery;
      const before = payment_id === null ? undefined : this.#busy.get(payment_id);
      if (before) {
        before.push(delivery);
        continue;
      }
      if (payment_id !== null) this.#busy.set(payment_id, []);
      this.#under_way += 1;
      return delivery;
    }
    return null;
  }

  /** Those that are taken next. */
  ahead(): readonly DueDelivery[] {
    return this.#queue.slice(this.#head, this.#head + AHEAD);
  }

  /** An attempt is over: answers the payment's next delivery, which takes its place. */
  over({ payment_id }: DueDelivery): DueDelivery | null {
    const next = payment_id === null ? undefined : this.#busy.get(payment_id)?.shift();
    if (next) return next;
    if (payment_id !== null) this.#busy.delete(payment_id);
    this.#under_way -= 1;
    return null;
  }

  /** What became of a delivery is stored, or will be found again by its time. */
  forget(id: string): void {
    this.#known.delete(id);
    this.#ended.add(id);
  }

  /** Not attempted: it is found again in the database, and so is what waits of its payment, in order. */
  leave({ id, payment_id }: DueDelivery): void {
    this.#known.delete(id);
    this.#drop((waiting) => payment_id !== null && waiting.payment_id === payment_id);
    this.doubt();
  }

  /** Drops what waits and is not among the first `limit` that are open: abandoned meanwhile, or another server's by now. */
  keepOpen(open: readonly DueDelivery[], limit: number): void {
    const ids = new Set(open.map(({ id }) => id));
    const last = open.length < limit ? null : open.at(-1);
    this.#drop(({ id, run_at }) => !ids.has(id) && (!last || run_at < last.run_at));
  }

  /** Drops what waits: the registration was stopped, or this server stops. */
  drop(): void {
    this.#drop(() => true);
    this.doubt();
  }

  #drop(which: (delivery: DueDelivery) => boolean): void {
    const kept = (delivery: DueDelivery): boolean => {
      const dropped = which(delivery);
      if (dropped) this.#known.delete(delivery.id);
      return !dropped;
    };
    this.#queue.push(...this.#queue.splice(0).slice(this.#head).filter(kept));
    this.#head = 0;
    for (const [payment_id, waiting] of this.#busy) this.#busy.set(payment_id, waiting.filter(kept));
  }
}
