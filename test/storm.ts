import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createClient, type Client } from './client.ts';
import { createTestDatabase } from './database.ts';
import { newTenant, spawnServer, type ServerProcess } from './fixtures.ts';
import { hooks } from './hooks.ts';
import { startReceiver, type Receiver } from './receiver.ts';

export interface StormResult {
  events: number;
  deliveries: number;
  kills: number;
  /** Requests that verified, those that repeat a delivery included. */
  verified: number;
  /** Deliveries that came more than once. */
  repeated: number;
  /** Payments whose events arrived first in another order, at receivers that refuse nothing. */
  out_of_order: number;
  seconds: number;
  /** Attempts of each server since it was last started. */
  attempts: number[];
}

/** How a receiver behaves while the storm lasts. */
type Mood = 'up' | 'flapping' | 'slow' | 'down at first';
const MOODS: Mood[] = ['up', 'flapping', 'slow', 'down at first'];
const DOWN_MS = 4000;
const AT_ONCE = 16;
const END_MS = 240_000;
const FIRST_KILL_MS = 300;
const MOST_ROUNDS = 50;
const KILL_MS = 1500;

function moody(receiver: Receiver, mood: Mood): void {
  const began = performance.now();
  receiver.behave = (_request, response) => {
    const ms = performance.now() - began;
    const refuse = (mood === 'flapping' && ms % 1000 < 300) || (mood === 'down at first' && ms < DOWN_MS);
    if (!refuse) return false;
    response.writeHead(503).end();
    return true;
  };
  if (mood !== 'slow') return;
  receiver.delay_ms = 30;
}

/** One client per server: each server does a share of the work, and any of them may be killed at any moment. */
async function makePayments(
  clients: readonly (() => Client)[],
  base: string,
  wallet_id: string,
  count: number,
): Promise<string[]> {
  const ids: string[] = [];
  let next = 0;
  const insist = async (
    method: string,
    path: string,
    body: unknown,
    done: (status: number) => boolean,
  ): Promise<unknown> => {
    const give_up_at = Date.now() + END_MS;
    for (let tries = 0; ; tries += 1) {
      const client = clients[tries % clients.length]?.();
      const answer = await client
        ?.request(method, path, body === undefined ? {} : { body })
        .catch(() => null);
      if (answer && done(answer.status)) return answer.body;
      assert.ok(Date.now() < give_up_at, `${method} ${path}: no server answers`);
      await new Promise((wait) => setTimeout(wait, 20));
    }
  };
  const one = async (): Promise<void> => {
    while (next < count) {
      next += 1;
      const id = randomUUID();
      const body = { id, wallet_id, payment_kind: 'bolt11', amount: { currency: 'btc', amount: 1000 } };
      await insist('POST', `${base}/payments`, body, (status) => status === 202 || status === 409);
      let payment_request: string | null = null;
      while (payment_request === null) {
        const shown = (await insist(
          'GET',
          `${base}/payments/${id}`,
          undefined,
          (status) => status === 200,
        )) as {
          data: { payment_request: string | null };
        };
        ({ payment_request } = shown.data);
      }
      await insist(
        'POST',
        `${base}/sandbox/payments`,
        { payment_request },
        (status) => status === 200 || status === 400,
      );
      ids.push(id);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return ids;
}

/** Looks at what the receivers have: every event at each of them, in the order of its payment. */
function judgeReceivers(
  receivers: readonly Receiver[],
  moods: readonly Mood[],
  payments: readonly string[],
): { missing: number; wrong: number; repeated: number; verified: number } {
  const order = ['generated', 'succeeded', 'completed'];
  const result = { missing: 0, wrong: 0, repeated: 0, verified: 0 };
  for (const [index, receiver] of receivers.entries()) {
    const refuses = moods[index] === 'flapping' || moods[index] === 'down at first';
    result.verified += receiver.received.length;
    const first = new Map<string, string[]>();
    const deliveries = new Map<string, string>();
    for (const { delivery_id, event, data } of receiver.received) {
      const key = `${data.id}/${event}`;
      const known = deliveries.get(key);
      if (known === undefined) {
        deliveries.set(key, delivery_id);
        first.set(data.id, [...(first.get(data.id) ?? []), event]);
      } else {
        assert.equal(delivery_id, known, 'a repetition carries the same delivery id');
        result.repeated += 1;
      }
    }
    for (const payment of payments) {
      const events = first.get(payment) ?? [];
      result.missing += order.filter((event) => !events.includes(event)).length;
      // One that was refused is overtaken by the next.
      if (!refuses && JSON.stringify(events) !== JSON.stringify(order)) result.wrong += 1;
    }
  }
  return result;
}

/** Waits until every receiver has every event, each of them verified. */
async function allCame(
  ...given: Parameters<typeof judgeReceivers>
): Promise<ReturnType<typeof judgeReceivers>> {
  const refused = () => given[0].flatMap((receiver) => receiver.refused);
  const give_up_at = Date.now() + END_MS;
  let judged = judgeReceivers(...given);
  while (judged.missing > 0) {
    assert.ok(Date.now() < give_up_at, `${judged.missing} events are missing: ${refused()[0]}`);
    await new Promise((wait) => setTimeout(wait, 500));
    judged = judgeReceivers(...given);
  }
  assert.deepEqual(refused().slice(0, 3), [], 'everything that came verified');
  return judged;
}

/** Begins again every delivery that has failed at least once and waits. */
async function retryOpen(client: Client, base: string, webhook: string): Promise<void> {
  const my = hooks(client, base);
  for (const { id, attempt_count } of await my.deliveries(webhook, '?statuses=attempting&limit=1000')) {
    if (attempt_count > 0) await my.call('POST', `${my.path}/${webhook}/deliveries/${id}/retry`);
  }
}

async function attemptsOf({ base_url }: ServerProcess): Promise<number> {
  const text = await (await fetch(base_url.replace('/v1', '/metrics'))).text();
  const counts = text.matchAll(/^coulomb_webhook_attempts_total\{[^}]*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** Payments on two servers that are killed in turn, told to four receivers of every mood. */
export async function storm(
  count: number,
  moods: readonly Mood[] = MOODS,
  killing_them = true,
): Promise<StormResult> {
  const database = await createTestDatabase();
  const tenant = await newTenant(database.db);
  const base = `/organizations/${tenant.organization_id}/environments/${tenant.environment_id}`;
  const receivers = await Promise.all(moods.map(() => startReceiver()));
  const servers: ServerProcess[] = await Promise.all([1, 2].map(() => spawnServer(database.url)));
  const clientOf = (index: number) => () => createClient(servers[index]?.base_url ?? '', tenant.api_key);
  const state = { storming: true };
  let kills = 0;
  const webhooks: string[] = [];
  const began = performance.now();
  async function killInTurn(): Promise<void> {
    while (state.storming) {
      // The first one soon: a short storm on a quick machine is over before the next.
      await new Promise((wait) => setTimeout(wait, kills === 0 ? FIRST_KILL_MS : KILL_MS));
      if (!state.storming) return;
      const index = kills % servers.length;
      await servers[index]?.kill('SIGKILL');
      kills += 1;
      servers[index] = await spawnServer(database.url);
    }
  }
  try {
    for (const [index, receiver] of receivers.entries()) {
      webhooks.push(await hooks(clientOf(0)(), base).register(receiver));
      moody(receiver, moods[index] ?? 'up');
    }
    const killing = killing_them ? killInTurn() : Promise.resolve();
    const more = () => makePayments([clientOf(0), clientOf(1)], base, tenant.wallet_id, count);
    const payments = await more();
    // A server that has just come takes its share after some seconds: go on until both send.
    for (let round = 1; round < MOST_ROUNDS; round += 1) {
      if (killing_them || (await Promise.all(servers.map(attemptsOf))).every((attempts) => attempts > 0))
        break;
      payments.push(...(await more()));
    }
    // All are up again. What waits for its next attempt is begun again, as an operator would.
    for (const receiver of receivers) receiver.behave = null;
    state.storming = false;
    await killing;
    for (const webhook of webhooks) await retryOpen(clientOf(0)(), base, webhook);
    const judged = await allCame(receivers, moods, payments);
    const [stored] = await database.db.query<{ count: bigint }>('SELECT count(*) AS count FROM events');
    return {
      events: Number(stored?.count ?? 0n),
      deliveries: payments.length * 3 * moods.length,
      kills,
      verified: judged.verified,
      repeated: judged.repeated,
      out_of_order: judged.wrong,
      seconds: Math.round((performance.now() - began) / 100) / 10,
      attempts: await Promise.all(servers.map(attemptsOf)),
    };
  } finally {
    state.storming = false;
    await Promise.all(servers.map((server) => server.kill('SIGKILL')));
    await Promise.all(receivers.map((receiver) => receiver.close()));
    await database.drop();
  }
}
