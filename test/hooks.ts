import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { Client } from './client.ts';
import type { Receiver } from './receiver.ts';
import { GIVE_UP_MS, growingPause } from './wait.ts';

const ALL_EVENTS = [
  { send: ['succeeded', 'failed'] },
  { receive: ['generated', 'detected', 'refreshed', 'expired', 'succeeded', 'completed', 'failed'] },
];

export interface DeliveryShown {
  id: string;
  webhook_id: string;
  url: string;
  status: string;
  attempt_count: number;
  status_code: number | null;
  created_at: string;
  updated_at: string;
  payload: { type: string; detail: { event: string; data: { id: string; status: string } | string } };
  error_info: { code: string; context?: object } | null;
}

/** What a client does with webhooks of one environment; every answer is validated by the client beneath. */
export function hooks(client: Client, base: string) {
  const path = `${base}/webhooks`;
  async function call(method: string, at: string, body?: unknown): Promise<unknown> {
    const answer = await client.request(method, at, body === undefined ? {} : { body });
    assert.ok(
      answer.status === 200 || answer.status === 202,
      `${method} ${at}: ${answer.status} ${answer.text}`,
    );
    return answer.body;
  }
  return {
    path,
    call,
    /** Registers a receiver for events; answers the registration's id. */
    async register(receiver: Receiver, events: object[] = ALL_EVENTS, url = receiver.url): Promise<string> {
      const id = randomUUID();
      const made = (await call('POST', path, { id, url, name: 'hook', events })) as {
        id: string;
        shared_secret: string;
      };
      assert.equal(made.id, id);
      receiver.secrets.set(id, [made.shared_secret]);
      return id;
    },
    get: (id: string) => call('GET', `${path}/${id}`) as Promise<Record<string, unknown>>,
    async deliveries(id: string, query = ''): Promise<DeliveryShown[]> {
      return ((await call('GET', `${path}/${id}/deliveries${query}`)) as { items: DeliveryShown[] }).items;
    },
    delivery: (id: string, delivery: string) =>
      call('GET', `${path}/${id}/deliveries/${delivery}`) as Promise<DeliveryShown>,
    async until(
      id: string,
      delivery: string,
      reached: (shown: DeliveryShown) => boolean,
    ): Promise<DeliveryShown> {
      const give_up_at = Date.now() + GIVE_UP_MS;
      const pause = growingPause();
      for (;;) {
        const shown = await this.delivery(id, delivery);
        if (reached(shown)) return shown;
        assert.ok(Date.now() < give_up_at, `delivery ${delivery} stays ${JSON.stringify(shown)}`);
        await pause();
      }
    },
  };
}
