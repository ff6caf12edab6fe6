import type { StoredEvent } from '../core/events.ts';
import type { Delivery } from './deliveries.ts';

/** A delivery that waits to be sent; its event if it is at hand. */
export interface Job {
  delivery: Delivery;
  event: StoredEvent | null;
}

/** How one registration is reached now. */
export interface Receiver {
  url: string;
  secret: string;
  previous_secret: string | null;
  allow_private: boolean;
  failing_since: string | null;
  failing_at: string | null;
}

/** Requests under way to one registration from one process; few while it only fails. */
const AT_ONCE = 32;
const AT_ONCE_FAILING = 4;
/** Jobs held in memory per registration; the rest waits in the database. */
export const MAX_HELD = 500;
/** Below this, more are read. */
const LOW = 100;
/** Jobs of which the event is kept beside them; further back it is read again when its turn comes. */
const MAX_EVENTS = 64;
/** Attempts that are made and not recorded yet: beyond, the database is behind and sending more would only repeat. */
const MAX_UNRECORDED = 2000;

/**
 * The queue of one registration in one process, in the order of events. A payment's deliveries go one after the
 * other; nothing else waits for anything.
 */
export class Line {
  readonly key: string;
  receiver: Receiver;
  /** All that is due is in memory: what comes next may be appended without asking the database. */
  complete = false;
  /** When the next one in the database is due, milliseconds; infinite when nothing is known. */
  due_ms = Number.POSITIVE_INFINITY;
  /** Deliveries that ended since the database was last asked: its answer may be older. */
  readonly ended = new Set<string>();
  readonly #queue: Job[] = [];
  #head = 0;
  #events = 0;
  readonly #known = new Set<string>();
  readonly #busy = new Map<string, Job[]>();
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
  get wants_more(): boolean {
    return !this.complete && this.waiting < LOW;
  }

  /** Appends a job that is not known yet; false when the line is full. */
  add(job: Job): boolean {
    const { id } = job.delivery;
    if (this.#known.has(id) || this.ended.has(id)) return true;
    if (this.#known.size >= MAX_HELD + MAX_UNRECORDED || this.waiting >= MAX_HELD) return false;
    this.#known.add(id);
    const keep = job.event !== null && this.#events < MAX_EVENTS;
    if (keep) this.#events += 1;
    this.#queue.push(keep || job.event === null ? job : { ...job, event: null });
    return true;
  }

  /** The next job that may be sent now, or null. */
  take(at_once = AT_ONCE): Job | null {
    const most = Math.min(at_once, this.receiver.failing_since === null ? AT_ONCE : AT_ONCE_FAILING);
    while (this.#under_way < most && this.waiting > 0 && this.#known.size - this.waiting < MAX_UNRECORDED) {
      const job = this.#queue[this.#head] as Job;
      this.#head += 1;
      if (this.#head > MAX_HELD) {
        this.#queue.splice(0, this.#head);
        this.#head = 0;
      }
      if (job.event) this.#events -= 1;
      const { payment_id } = job.delivery;
      const before = payment_id === null ? undefined : this.#busy.get(payment_id);
      if (before) {
        before.push(job);
        continue;
      }
      if (payment_id !== null) this.#busy.set(payment_id, []);
      this.#under_way += 1;
      return job;
    }
    return null;
  }

  /** An attempt is over: answers the payment's next job, which takes its place. */
  over({ delivery: { payment_id } }: Job): Job | null {
    const next = payment_id === null ? undefined : this.#busy.get(payment_id)?.shift();
    if (next) return next;
    if (payment_id !== null) this.#busy.delete(payment_id);
    this.#under_way -= 1;
    return null;
  }

  /** What became of a job is stored, or will be found again by its time. */
  forget(id: string): void {
    this.#known.delete(id);
    this.ended.add(id);
  }

  /** Drops what waits and is not among the first `limit` that are open: abandoned meanwhile, or another server's by now. */
  keepOpen(open: readonly Delivery[], limit: number): void {
    const ids = new Set(open.map(({ id }) => id));
    const last = open.length < limit ? null : open.at(-1);
    this.drop(({ id, run_at }) => !ids.has(id) && (!last || run_at < last.run_at));
  }

  /** Drops what waits: the registration was stopped, or another server sends it now. */
  drop(which: (delivery: Delivery) => boolean = () => true): void {
    const kept: Job[] = [];
    for (const job of this.#queue.splice(0).slice(this.#head)) {
      if (!which(job.delivery)) {
        kept.push(job);
        continue;
      }
      this.#known.delete(job.delivery.id);
      if (job.event) this.#events -= 1;
    }
    this.#head = 0;
    this.#queue.push(...kept);
    for (const [payment_id, jobs] of this.#busy) {
      const own = jobs.filter((job) => {
        const dropped = which(job.delivery);
        if (dropped) this.#known.delete(job.delivery.id);
        return !dropped;
      });
      this.#busy.set(payment_id, own);
    }
    this.complete = false;
  }
}
