import type { Logger } from 'pino';
import { createTimestamps, timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { headersOf, post, type Outcome } from './attempt.ts';
import { endWithoutEvent } from './deliveries.ts';
import type { Line, Receiver } from './line.ts';
import type { Membership } from './membership.ts';
import { createMessages, type Bodies, type Message, type Messages } from './messages.ts';
import type { DueDelivery } from './queue.ts';
import { Recorder } from './recorder.ts';
import { nextAttempt } from './states.ts';
import { noteArrival, noteFailure, refOfKey, stopFailing } from './store.ts';
import type { Network } from './target.ts';

// The attempts themselves. A delivery is sent first and recorded afterwards: a process that dies in between sends it
// again, with the same delivery id; it is never lost (threat 14). A payment's next delivery goes out when the attempt
// before it is over, however that ended: an order for first attempts, not a queue that one failure blocks.

export interface SenderDeps {
  db: Database;
  clock: Clock;
  log: Logger;
  network: Network;
  membership: Pick<Membership, 'owns' | 'shards'>;
  bodies: Bodies;
  stop_after_ms: number;
  timeout_ms: number;
  /** Counts an attempt. */
  attempted(result: string): void;
}

/** Requests at once to each registration while payments need the processor. */
const AT_ONCE_BESIDE_PAYMENTS = 1;
/** While a registration only fails, that is noted this often. */
const NOTE_AGAIN_MS = 60_000;

/** Makes the attempts of lines and records what they brought. */
export class Sender {
  readonly #deps: SenderDeps;
  /** Asks for a line to be filled from the database. */
  readonly #look: (line: Line) => void;
  readonly #messages: Messages;
  readonly #recorder: Recorder;
  readonly #time: () => string;
  #stopped = false;
  #at_once: number | undefined;

  constructor(deps: SenderDeps, look: (line: Line) => void) {
    this.#deps = deps;
    this.#look = look;
    this.#messages = createMessages(deps.db, deps.bodies);
    this.#recorder = new Recorder(deps.db);
    this.#time = createTimestamps(deps.clock);
  }

  /** Sends what a line may send now, and goes on as attempts end. */
  pump(line: Line): void {
    if (this.#waits()) return;
    // What cannot be recorded would be sent again and again: one shows whether it can be.
    const most = this.#recorder.refused ? 1 : this.#at_once;
    for (let next = line.take(most); next; next = line.take(most)) void this.#send(line, next);
    if (line.wants_more) this.#look(line);
  }

  /** While payments take all of the processor, deliveries go on at a pace that leaves it to them. */
  giveWay(to_payments: boolean): void {
    this.#at_once = to_payments ? AT_ONCE_BESIDE_PAYMENTS : undefined;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#recorder.idle();
  }

  #waits(): boolean {
    return this.#stopped || this.#recorder.pause_ms > 0;
  }

  /** One delivery, and those of its payment that waited for it. */
  async #send(line: Line, first: DueDelivery): Promise<void> {
    for (let delivery: DueDelivery | null = first; delivery; delivery = line.over(delivery)) {
      // Asked again right before it is sent: it may have waited here for long, and be another server's by now.
      if (this.#waits() || !this.#deps.membership.owns(delivery.shard)) {
        line.leave(delivery);
        continue;
      }
      try {
        const message = await this.#messages.of(delivery, () => line.ahead());
        if (message) await this.#attempt(line, delivery, message);
        else await this.#endWithoutEvent(line, delivery);
      } catch (error) {
        this.#deps.log.warn(
          { err: error, delivery_id: delivery.id },
          'delivery not attempted, will be tried again',
        );
        line.leave(delivery);
      }
    }
    this.pump(line);
  }

  async #endWithoutEvent(line: Line, delivery: DueDelivery): Promise<void> {
    this.#deps.log.error(
      { delivery_id: delivery.id, webhook_id: delivery.webhook_id },
      'delivery failed: its event is gone',
    );
    await endWithoutEvent(this.#deps.db, delivery, this.#time());
    line.leave(delivery);
  }

  async #attempt(line: Line, delivery: DueDelivery, message: Message): Promise<void> {
    const { clock, network, timeout_ms, attempted } = this.#deps;
    const { receiver } = line;
    const headers = headersOf(
      { webhook_id: delivery.webhook_id, delivery_id: delivery.id, ...message },
      receiver.secret,
      receiver.previous_secret,
      clock.now(),
    );
    const dispatcher = network.dispatcher(receiver.allow_private);
    const outcome = await post(dispatcher, receiver.url, headers, message.body, timeout_ms);
    attempted(outcome.error?.code ?? 'succeeded');
    // With the receiver of this attempt: that of the line may be another one when it is recorded.
    void this.#settle(line, delivery, receiver, outcome);
  }

  /** Stores what an attempt brought; the next one of its payment does not wait for that. */
  async #settle(line: Line, delivery: DueDelivery, receiver: Receiver, outcome: Outcome): Promise<void> {
    const next_ms = outcome.error ? this.#nextOf(delivery, outcome) : null;
    try {
      await this.#recorder.record({
        organization_id: delivery.organization_id,
        environment_id: delivery.environment_id,
        webhook_id: delivery.webhook_id,
        id: delivery.id,
        run_before: delivery.run_at,
        status: outcome.error === null ? 'succeeded' : next_ms === null ? 'failed' : 'attempting',
        run_at: next_ms === null ? delivery.run_at : timeText(next_ms),
        url: receiver.url,
        error_info: outcome.error,
        status_code: outcome.status_code,
        updated_at: this.#time(),
      });
      if (next_ms !== null) line.due_ms = Math.min(line.due_ms, next_ms);
      await this.#noteHealth(line, outcome.error === null);
    } catch (error) {
      this.#deps.log.warn(
        { err: error, delivery_id: delivery.id },
        'attempt not recorded, it will be repeated',
      );
      // In the database it is still due: found there again, once what is recorded is stored.
      line.doubt();
      setTimeout(() => this.pump(line), this.#recorder.pause_ms).unref();
    }
    line.forget(delivery.id);
    this.pump(line);
  }

  /** When a failed delivery is attempted again, milliseconds; null: never by itself. */
  #nextOf(delivery: DueDelivery, { asked_ms }: Outcome): number | null {
    const now_ms = this.#deps.clock.now();
    return nextAttempt({
      attempts: delivery.round_attempts + 1,
      // A round begins with its first attempt, however long it waited for it.
      round_started_ms: delivery.round_attempts === 0 ? now_ms : Date.parse(delivery.round_started_at),
      now_ms,
      random: Math.random(),
      asked_ms,
    });
  }

  /** Keeps since when a registration only fails, and stops it when that is too long; what waits is kept for its start. */
  async #noteHealth(line: Line, arrived: boolean): Promise<void> {
    const { db, clock, log, stop_after_ms } = this.#deps;
    const { failing_since, failing_at } = line.receiver;
    if (arrived && failing_since === null) return;
    const ref = refOfKey(line.key);
    if (arrived) {
      // In memory first: of many attempts that arrive at once, one writes.
      line.receiver = { ...line.receiver, failing_since: null, failing_at: null };
      await noteArrival(db, ref);
      return;
    }
    if (failing_since === null || clock.now() - Date.parse(failing_at ?? failing_since) > NOTE_AGAIN_MS) {
      line.receiver = { ...line.receiver, ...(await noteFailure(db, ref, this.#time())) };
    }
    const since = line.receiver.failing_since;
    if (since === null || clock.now() - Date.parse(since) <= stop_after_ms) return;
    if (!(await stopFailing(db, ref, since, this.#time()))) return;
    log.warn(
      { webhook_id: ref.id, ...ref, failing_since: since },
      'webhook stopped: only failures for too long',
    );
    line.drop();
    this.#look(line);
  }
}
