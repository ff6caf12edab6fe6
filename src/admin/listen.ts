import { createHmac } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { headersOf, post } from '../webhooks/attempt.ts';
import { createResolve, openNetwork } from '../webhooks/target.ts';
import { optional, readArguments, UsageError } from './usage.ts';

// Webhooks for a program under development that no server can reach: reads the event stream as any client of the API
// does, and posts what comes as the server would. It opens no database, and knows of the server only what its key may
// read.

export const LISTEN_USAGE =
  'listen --forward-to URL [--types a,b] [--after ID] [--api-url URL --organization ID --environment ID]';

/**
 * Reads the flags; what they do not say comes from the credentials file of the sandbox. The API key is no flag: the
 * arguments of a process are there for everybody on the machine to see.
 */
function parseListen(args: readonly string[], credentials: string, given_key: string | null) {
  const given = readArguments(LISTEN_USAGE, args);
  const file = existsSync(credentials) ? readFileSync(credentials, 'utf8') : '';
  const need = (own: string | null | undefined, name: string, how: string): string => {
    const found = own ?? new RegExp(`^${name}=(.+)$`, 'm').exec(file)?.[1];
    if (found === undefined) throw new UsageError(`${how} is required: ${credentials} has no ${name}`);
    return found;
  };
  const forward_to = optional(given, 'forward-to') ?? '';
  if (!URL.canParse(forward_to) || !/^https?:$/.test(new URL(forward_to).protocol))
    throw new UsageError(`--forward-to must be a URL\nusage: coulomb ${LISTEN_USAGE}`);
  return {
    forward_to,
    api_url: need(optional(given, 'api-url'), 'VOLTAGE_BASE_URL', '--api-url'),
    api_key: need(given_key, 'VOLTAGE_API_KEY', 'the environment variable VOLTAGE_API_KEY'),
    organization_id: need(optional(given, 'organization'), 'VOLTAGE_ORGANIZATION_ID', '--organization'),
    environment_id: need(optional(given, 'environment'), 'VOLTAGE_ENVIRONMENT_ID', '--environment'),
    types:
      optional(given, 'types')
        ?.split(',')
        .map((type) => type.trim()) ?? [],
    after: optional(given, 'after') ?? null,
  };
}

/** The same for the same key, so that a receiver is set up once; neither tells anything of the key. */
function identityOf(api_key: string): { secret: string; webhook_id: string } {
  const derive = (what: string): Buffer =>
    createHmac('sha256', api_key).update(`coulomb listen ${what}`).digest();
  return { secret: `whsec_${derive('secret').toString('base64url')}`, webhook_id: asUuid(derive('id')) };
}

const TIMEOUT_MS = 15_000;
const RECONNECT_MS = 1000;
// What trying again does not mend.
const REFUSED = new Set([400, 401, 403, 404]);

/** Forwards an environment's events to a URL, signed as a webhook, until it is ended. */
export async function listen(
  args: readonly string[],
  credentials: string,
  given_key: string | null,
  say: (line: string) => void,
): Promise<never> {
  const options = parseListen(args, credentials, given_key);
  const { secret, webhook_id } = identityOf(options.api_key);
  const network = openNetwork(createResolve(), TIMEOUT_MS);
  let { after } = options;
  let greeted = false;

  async function forward({ id, event, data }: Frame): Promise<void> {
    const message = { webhook_id, delivery_id: deliveryId(id), event: event.split('.')[1] ?? '', body: data };
    const headers = headersOf(message, secret, null, Date.now());
    const { status_code, error } = await post(
      network.dispatcher(true),
      options.forward_to,
      headers,
      data,
      TIMEOUT_MS,
    );
    const payment = (JSON.parse(data) as { detail: { data: { id: string } } }).detail.data.id;
    say(`${event}  ${payment}  ${status_code ?? '-'}${error ? `  ${error.detail}` : ''}`);
  }

  async function once(): Promise<void> {
    const answer = await connect(options, after);
    if (answer.status === 410) {
      say('the last event seen is not kept any more: going on with the next one');
      after = null;
      return;
    }
    if (!answer.ok || !answer.body) {
      const text = `the server answers ${answer.status}: ${await answer.text()}`;
      if (REFUSED.has(answer.status)) throw new UsageError(text);
      throw new Error(text);
    }
    if (!greeted) {
      say(`Forwarding events of environment ${options.environment_id} to ${options.forward_to}`);
      say(`x-voltage-webhook-id: ${webhook_id}`);
      say(`signing secret: ${secret}`);
    }
    greeted = true;
    for await (const frame of framesOf(answer.body)) {
      if (frame.data !== '') await forward(frame);
      // Only now: an event during which the connection ended comes again, under the same delivery id.
      if (frame.id !== '') after = frame.id;
    }
  }

  for (;;) {
    try {
      await once();
    } catch (error) {
      if (error instanceof UsageError) throw error;
      say(`no connection, tried again: ${(error as Error).message}`);
    }
    await new Promise((done) => setTimeout(done, RECONNECT_MS));
  }
}

function connect(options: ReturnType<typeof parseListen>, after: string | null): Promise<Response> {
  const { api_url, organization_id, environment_id, api_key, types } = options;
  const url = new URL(`${api_url}/organizations/${organization_id}/environments/${environment_id}/events`);
  for (const type of types) url.searchParams.append('types[]', type);
  return fetch(url, {
    headers: {
      accept: 'text/event-stream',
      'x-api-key': api_key,
      ...(after === null ? {} : { 'last-event-id': after }),
    },
  });
}

/** The same delivery id when an event is forwarded again. */
const deliveryId = (event_id: string): string =>
  asUuid(createHmac('sha256', 'coulomb listen delivery').update(event_id).digest());

function asUuid(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

interface Frame {
  id: string;
  event: string;
  data: string;
}

/** The blocks of a stream, with data or with a place only; comments are left out. */
async function* framesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Frame> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of body) {
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      // Only a line feed ends a line here: JSON may hold other characters that end lines elsewhere.
      const lines = block.split('\n');
      const field = (name: string): string =>
        lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? '';
      yield { id: field('id'), event: field('event'), data: field('data') };
    }
  }
}
