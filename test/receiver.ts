import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { GIVE_UP_MS } from './wait.ts';

// A receiver of webhooks as their guide describes one (contract: tag "Webhooks"), and nothing else: it knows no code of
// the server. What it is sent is kept only when it verifies.

export interface Received {
  webhook_id: string;
  delivery_id: string;
  event: string;
  type: string;
  /** The payment, or the text of a test. */
  data: { id: string; status: string; updated_at: string } & Record<string, unknown>;
  raw_body: string;
  signature: string;
  timestamp: string;
  at_ms: number;
}

export interface Receiver {
  url: string;
  /** Candidates by registration: a rotation has two for a while. */
  secrets: Map<string, string[]>;
  received: Received[];
  /** Deliveries that were refused, with the reason. */
  refused: string[];
  /** Requests that came, verified or not. */
  requests: IncomingMessage[];
  /** Answers the next requests in another way than 200; null: verify and accept. */
  behave: ((request: IncomingMessage, response: ServerResponse, body: string) => boolean) | null;
  /** Every answer waits this long. */
  delay_ms: number;
  until(reached: () => boolean, what: string): Promise<void>;
  close(): Promise<void>;
}

const WINDOW_SECONDS = 300;

function header(request: IncomingMessage, name: string): string | null {
  const value = request.headers[name];
  return typeof value === 'string' && value !== '' ? value : null;
}

/** The guide's verification order; answers why a delivery is refused, or what it tells. */
function verify(
  request: IncomingMessage,
  raw_body: Buffer,
  secrets: ReadonlyMap<string, readonly string[]>,
): Received | string {
  const id = header(request, 'x-voltage-webhook-id');
  const timestamp = header(request, 'x-voltage-timestamp');
  const signature = header(request, 'x-voltage-signature');
  if (id === null || timestamp === null || signature === null) return 'a header is missing';
  const candidates = secrets.get(id);
  if (!candidates) return `unknown webhook ${id}`;
  if (!/^\d+$/.test(timestamp)) return 'the timestamp has more than digits';
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > WINDOW_SECONDS) return 'stale';
  if (!/^[A-Za-z0-9+/]{43}=$/.test(signature)) return 'the signature is not 44 characters of Base64';
  const valid = candidates
    .map((secret) =>
      createHmac('sha256', secret)
        .update(Buffer.concat([raw_body, Buffer.from(`.${timestamp}`)]))
        .digest('base64'),
    )
    .some((expected) => timingSafeEqual(Buffer.from(expected), Buffer.from(signature)));
  if (!valid) return 'the signature does not match';
  const { type, detail } = JSON.parse(raw_body.toString()) as {
    type: string;
    detail: { event: string; data: Received['data'] };
  };
  const event = header(request, 'x-voltage-event');
  if (event !== detail.event) return 'the event of the header is not that of the body';
  return {
    webhook_id: id,
    delivery_id: header(request, 'x-voltage-delivery-id') ?? '',
    event,
    type,
    data: detail.data,
    raw_body: raw_body.toString(),
    signature,
    timestamp,
    at_ms: performance.now(),
  };
}

/** Starts a receiver on a port of its own, or on a given one. */
export async function startReceiver(port = 0): Promise<Receiver> {
  const receiver: Receiver = {
    url: '',
    secrets: new Map(),
    received: [],
    refused: [],
    requests: [],
    behave: null,
    delay_ms: 0,
    async until(reached, what) {
      const give_up_at = Date.now() + GIVE_UP_MS;
      while (!reached()) {
        if (Date.now() > give_up_at)
          throw new Error(`${what}: did not come; refused: ${receiver.refused.slice(0, 3).join('; ')}`);
        await new Promise((done) => setTimeout(done, 5));
      }
    },
    async close() {
      const closed = new Promise((done) => server.close(done));
      server.closeAllConnections();
      await closed;
    },
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      receiver.requests.push(request);
      if (receiver.behave?.(request, response, body.toString())) return;
      const told = verify(request, body, receiver.secrets);
      if (typeof told === 'string') receiver.refused.push(told);
      else receiver.received.push(told);
      const answer = () => response.writeHead(typeof told === 'string' ? 400 : 200).end();
      if (receiver.delay_ms > 0) setTimeout(answer, receiver.delay_ms);
      else answer();
    });
  });
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  const address = server.address() as { port: number };
  receiver.url = `http://127.0.0.1:${address.port}/hook`;
  return receiver;
}
