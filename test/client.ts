import { parseJson, stringifyJson } from '../src/core/json.ts';
import { assertFits, createValidator } from './contract.ts';

export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  /** Parsed without rounding; undefined when there is none. */
  body: unknown;
}

export interface RequestOptions {
  body?: unknown;
  /** Sent as it is, instead of `body`. */
  raw_body?: string;
  headers?: Record<string, string>;
}

export interface Client {
  request(method: string, path: string, options?: RequestOptions): Promise<Answer>;
}

const real_fetch = globalThis.fetch;
const documents = new Map<string, Promise<ReturnType<typeof createValidator>>>();

function documentOf(origin: string): Promise<ReturnType<typeof createValidator>> {
  let own = documents.get(origin);
  if (!own) {
    own = real_fetch(`${origin}/openapi.json`)
      .then((response) => response.json())
      .then((document) => createValidator(document as Parameters<typeof createValidator>[0]));
    documents.set(origin, own);
  }
  return own;
}

async function check(method: string, url: URL, status: number, text: string): Promise<unknown> {
  if (!url.pathname.startsWith('/v1/')) return text;
  const body = text === '' ? undefined : parseJson(text);
  // While the server is away its document cannot be read; the contract still can.
  const own = () => documentOf(url.origin).catch(() => null);
  await assertFits(own, method, url.pathname.slice('/v1'.length), status, body);
  return body;
}

/** A client whose every answer is held against the contract: no test can forget it. */
export function createClient(base_url: string, api_key: string | null): Client {
  return {
    async request(method, path, { body, raw_body, headers = {} } = {}) {
      const sent = raw_body ?? (body === undefined ? undefined : stringifyJson(body));
      const url = new URL(base_url + path);
      const response = await real_fetch(url, {
        method,
        headers: {
          ...(api_key === null ? {} : { 'x-api-key': api_key }),
          ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(sent === undefined ? {} : { body: sent }),
      });
      const text = await response.text();
      return {
        status: response.status,
        headers: response.headers,
        text,
        body: await check(method, url, response.status, text),
      };
    },
  };
}

/** Puts the same check under everything that uses `fetch`: the official client. */
export function installFetchHook(): void {
  globalThis.fetch = async (input, init) => {
    const response = await real_fetch(input, init);
    const url = new URL(input instanceof Request ? input.url : input);
    await check(init?.method ?? 'GET', url, response.status, await response.clone().text());
    return response;
  };
}
