import type { Logger } from 'pino';
import { createLane } from '../core/batch.ts';
import { createTimestamps, timeText, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { readEventsAt, type EventPlace, type StoredEvent } from '../core/events.ts';
import { headersOf, post, type Outcome } from './attempt.ts';
import type { Bodies } from './body.ts';
import { endWithoutEvent, recordAttempts, type Attempted, type Delivery } from './deliveries.ts';
import type { Job, Line, Receiver } from './line.ts';
import type { Membership } from './membership.ts';
import { nextAttempt } from './states.ts';
import { noteArrival, noteFailure, refOfKey, stopFailing } from './store.ts';
import type { Network } from './target.ts';

export interface SenderDeps {
  db: Database;
  clock: Clock;
  log: Logger;
  network: Network;
  membership: Membership;
  bodies: Bodies;
  stop_after_ms: number;
  timeout_ms: number;
  /** Counts an attempt. */
  attempted(result: string): void;
}

/** Makes the attempts of lines and records what they brought. */
export interface Sender {
  /** Sends what a line may send now, and goes on as attempts end. */
  pump(line: Line): void;
  /** While payments take all of the processor, deliveries go on at a pace that leaves it to them. */
  giveWay(to_payments: boolean): void;
  stop(): Promise<void>;
}

// Bounded by the lines: each holds so many attempts that are not recorded.
const RECORDS = { max_batch: 500, max_queue: Number.MAX_SAFE_INTEGER, concurrency: 1 };
/** Requests at once to each registration while payments need the processor. */
const AT_ONCE_BESIDE_PAYMENTS = 1;
/** While a registration only fails, that is noted this often. */
const NOTE_AGAIN_MS = 60_000;
/** After an attempt that the database did not record. */
const RECORD_PAUSE_MS = 250;
const MAX_RECORD_PAUSE_MS = 30_000;
const BUSY = 8;
const GATHER_MS = 8;
const EVENTS = { max_batch: 100, max_queue: Number.MAX_SAFE_INTEGER, concurrency: 2 };

/** `look` asks for a line to be filled from the database. */
export function createSender(deps: SenderDeps, look: (line: Line) => void): Sender {
  const { db, clock, log, membership } = deps;
  const time = createTimestamps(clock);
  let stopped = false;
  let at_once: number | undefined;
  /** Records that the database refused in a row, and until when nothing is sent because of that. */
  let refused = 0;
  let resume_at = 0;
  const records = createLane<Attempted, void>({
    ...RECORDS,
    run: async (attempts) => {
      await recordAttempts(db, attempts);
      // While much ends, the next are gathered for a moment: nobody waits for them.
      if (attempts.length >= BUSY) await new Promise((done) => setTimeout(done, GATHER_MS));
      return attempts.map(() => ({ ok: true as const, value: undefined }));
    },
  });
  const events = createEventLane(db);

  const waits = (): boolean => performance.now() < resume_at;

  /** An attempt that was made could not be recorded: those to come wait, longer each time. */
  function notRecorded(line: Line): void {
    if (!waits()) {
      resume_at = performance.now() + Math.min(RECORD_PAUSE_MS * 2 ** refused, MAX_RECORD_PAUSE_MS);
      refused += 1;
    }
    line.complete = false;
    setTimeout(() => pump(line), resume_at - performance.now()).unref();
  }

  function pump(line: Line): void {
    if (stopped || waits()) return;
    // What cannot be recorded would be sent again and again: one shows whether it can be.
    const most = refused > 0 ? 1 : at_once;
    for (let job = line.take(most); job; job = line.take(most)) void send(line, job);
    if (line.wants_more) look(line);
  }

  async function send(line: Line, first: Job): Promise<void> {
    for (let job: Job | null = first; job; job = line.over(job)) {
      const { delivery } = job;
      if (stopped || waits() || !membership.owns(delivery.shard)) {
        line.forget(delivery.id);
        line.complete = false;
        continue;
      }
      try {
        const event = job.event ?? (delivery.payload === null ? await events(delivery) : null);
        if (event === null && delivery.payload === null) {
          log.error(
            { delivery_id: delivery.id, webhook_id: delivery.webhook_id },
            'delivery failed: its event is gone',
          );
          await endWithoutEvent(db, delivery, time());
          line.forget(delivery.id);
          line.complete = false;
          continue;
        }
        await attempt(line, delivery, deps.bodies.of(delivery, event));
      } catch (error) {
        log.warn({ err: error, delivery_id: delivery.id }, 'delivery not attempted, will be tried again');
        line.forget(delivery.id);
        line.complete = false;
      }
    }
    pump(line);
  }

  async function attempt(
    line: Line,
    delivery: Delivery,
    message: { event: string; body: string },
  ): Promise<void> {
    const { receiver } = line;
    const headers = headersOf(
      { webhook_id: delivery.webhook_id, delivery_id: delivery.id, ...message },
      receiver.secret,
      receiver.previous_secret,
      clock.now(),
    );
    const dispatcher = deps.network.dispatcher(receiver.allow_private);
    const outcome = await post(dispatcher, receiver.url, headers, message.body, deps.timeout_ms);
    deps.attempted(outcome.error?.code ?? 'succeeded');
    void settle(line, delivery, receiver, outcome);
  }

  /** Stores what an attempt brought; the next one of its payment does not wait for that. */
  async function settle(line: Line, delivery: Delivery, receiver: Receiver, outcome: Outcome): Promise<void> {
    const now_ms = clock.now();
    const next_ms = outcome.error
      ? nextAttempt({
          attempts: delivery.round_attempts + 1,
          // A round begins with its first attempt, however long it waited for it.
          round_started_ms: delivery.round_attempts === 0 ? now_ms : Date.parse(delivery.round_started_at),
          now_ms,
          random: Math.random(),
          asked_ms: outcome.asked_ms,
        })
      : null;
    try {
      await records.submit({
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
        updated_at: time(),
      });
      refused = 0;
      if (next_ms !== null) line.due_ms = Math.min(line.due_ms, next_ms);
      await noteHealth(line, outcome.error === null);
    } catch (error) {
      log.warn({ err: error, delivery_id: delivery.id }, 'attempt not recorded, it will be repeated');
      notRecorded(line);
    }
    line.forget(delivery.id);
    pump(line);
  }

  async function noteHealth(line: Line, arrived: boolean): Promise<void> {
    const { failing_since, failing_at } = line.receiver;
    if (arrived && failing_since === null) return;
    const ref = refOfKey(line.key);
    if (arrived) {
      line.receiver = { ...line.receiver, failing_since: null, failing_at: null };
      return void (await noteArrival(db, ref));
    }
    if (failing_since === null || clock.now() - Date.parse(failing_at ?? failing_since) > NOTE_AGAIN_MS) {
      line.receiver = { ...line.receiver, ...(await noteFailure(db, ref, time())) };
    }
    const since = line.receiver.failing_since;
    if (since !== null && clock.now() - Date.parse(since) > deps.stop_after_ms) {
      if (!(await stopFailing(db, ref, since, time()))) return;
      log.warn(
        { webhook_id: ref.id, ...ref, failing_since: since },
        'webhook stopped: only failures for too long',
      );
      line.drop();
      look(line);
    }
  }

  return {
    pump,
    giveWay(to_payments) {
      at_once = to_payments ? AT_ONCE_BESIDE_PAYMENTS : undefined;
    },
    async stop() {
      stopped = true;
      await records.idle();
    },
  };
}

/** Reads events of deliveries whose turn has come, many at once. */
function createEventLane(db: Database): (delivery: Delivery) => Promise<StoredEvent | null> {
  const placeKey = ({ horizon, seq }: EventPlace): string => `${horizon}/${seq}`;
  const lane = createLane<Delivery, StoredEvent | null>({
    ...EVENTS,
    run: async (deliveries) => {
      const places = new Map(
        deliveries.flatMap(({ organization_id, environment_id, horizon, seq }) =>
          horizon === null || seq === null
            ? []
            : [[placeKey({ horizon, seq }), { organization_id, environment_id, horizon, seq }]],
        ),
      );
      const found = new Map(
        (await readEventsAt(db, [...places.values()])).map((event) => [placeKey(event), event]),
      );
      return deliveries.map(({ horizon, seq }) => {
        const event = found.get(placeKey({ horizon: horizon ?? 0n, seq: seq ?? 0n }));
        return { ok: true, value: event ?? null };
      });
    },
  });
  return (delivery) => lane.submit(delivery);
}
