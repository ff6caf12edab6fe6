import { request } from 'node:http';
import { Pool } from 'undici';

/** A payment as the API shows it, as far as it is read here. */
export interface Shown {
  id: string;
  status: string;
  data: { payment_request: string };
}

/** What a client of the API does with payments: posts them, and hears on one event stream what became of them. */
export interface ApiClient {
  /** Posts a payment and resolves with the first event of these that tells of it; rejects when it failed. */
  through(body: { id: string }, until: string): Promise<Shown>;
  /** The event of a payment that was posted before, however early it comes. */
  heard(id: string, event: string): Promise<Shown>;
  close(): Promise<void>;
}

export interface ApiAccess {
  origin: string;
  /** Path of the environment, `/v1/…/environments/{id}`. */
  environment: string;
  api_key: string;
}

const CONNECTIONS = 128;
/** What a shop or a payer needs to hear. */
const TYPES = ['receive.generated', 'receive.completed', 'receive.failed', 'send.succeeded', 'send.failed'];

/** Reads Server-Sent Events; resolves when the stream stands. */
function follow(
  { origin, environment, api_key }: ApiAccess,
  tell: (type: string, shown: Shown) => void,
  ended: () => void,
): Promise<{ close(): void }> {
  const query = TYPES.map((type) => `types[]=${type}`).join('&');
  return new Promise((done, fail) => {
    const headers = { accept: 'text/event-stream', 'x-api-key': api_key };
    const sent = request(`${origin}${environment}/events?${query}`, { headers, agent: false }, (answer) => {
      if (answer.statusCode !== 200) return fail(new Error(`event stream: ${answer.statusCode}`));
      let rest = '';
      answer.setEncoding('utf8');
      answer.on('data', (chunk: string) => {
        const blocks = (rest + chunk).split('\n\n');
        rest = blocks.pop() ?? '';
        for (const block of blocks) {
          const [, type, data] = /^event: (\S+)\ndata: (.*)$/m.exec(block) ?? [];
          if (type === undefined || data === undefined) continue;
          tell(type, (JSON.parse(data) as { detail: { data: Shown } }).detail.data);
        }
      });
      answer.on('error', () => {}).on('close', ended);
      done({ close: () => sent.destroy() });
    });
    sent.on('error', fail);
    sent.end();
  });
}

export async function openApiClient(access: ApiAccess): Promise<ApiClient> {
  const pool = new Pool(access.origin, { connections: CONNECTIONS, pipelining: 1 });
  const headers = { 'x-api-key': access.api_key, 'content-type': 'application/json' };
  const waiting = new Map<string, { event: string; done(shown: Shown): void; fail(error: Error): void }>();
  function tell(type: string, shown: Shown): void {
    const found = waiting.get(shown.id);
    if (!found) return;
    if (type.endsWith('.failed')) found.fail(new Error(`payment ${shown.id} failed`));
    else if (type === found.event) found.done(shown);
    else return;
    waiting.delete(shown.id);
  }
  const stream = await follow(access, tell, () => {
    for (const { fail } of waiting.values()) fail(new Error('the event stream ended'));
  });
  const heard = (id: string, event: string): Promise<Shown> =>
    new Promise((done, fail) => waiting.set(id, { event, done, fail }));

  return {
    heard,
    async through(body, until) {
      // Heard from before it is asked for: the event may be here before the answer.
      const told = heard(body.id, until);
      const [shown] = await Promise.all([told, post(body)]);
      return shown;
    },
    async close() {
      stream.close();
      await pool.close();
    },
  };

  async function post(body: object): Promise<void> {
    const sent = {
      method: 'POST',
      path: `${access.environment}/payments`,
      headers,
      body: JSON.stringify(body),
    };
    const response = await pool.request(sent as Parameters<typeof pool.request>[0]);
    const text = await response.body.text();
    if (response.statusCode > 299) throw new Error(`POST: ${response.statusCode} ${text}`);
  }
}
