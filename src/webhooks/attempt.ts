import { createHmac } from 'node:crypto';
import { errors, request, type Dispatcher } from 'undici';
import type { Message } from './messages.ts';
import { BlockedAddress } from './target.ts';

// One attempt: signed, posted once, and what the answer means. Receivers are strangers: they may hang, redirect, answer
// megabytes or nonsense. Nothing of that is followed, read as more than a status, or stored (threat 13).

/** Why an attempt failed, as the contract shows it. */
export interface ErrorInfo {
  type: 'delivery_failed';
  code: string;
  detail: string;
  context?:
    { type: 'http_status'; status_code: number } | { type: 'rate_limited'; retry_after_seconds: number };
}

export interface Outcome {
  /** Null when no answer came. */
  status_code: number | null;
  /** Null: delivered. */
  error: ErrorInfo | null;
  /** How long the receiver asked to be left alone. */
  asked_ms: number;
}

/** `base64(hmac_sha256(secret, body + "." + timestamp))`, the key being the secret's own characters. */
export const signature = (secret: string, body: string, timestamp: string): string =>
  createHmac('sha256', secret).update(body).update('.').update(timestamp).digest('base64');

/** The headers of one attempt. */
export function headersOf(
  message: Message & { webhook_id: string; delivery_id: string },
  secret: string,
  previous_secret: string | null,
  now_ms: number,
): Record<string, string> {
  const timestamp = String(Math.floor(now_ms / 1000));
  return {
    'content-type': 'application/json',
    'user-agent': 'Coulomb-Webhooks/1',
    'x-voltage-webhook-id': message.webhook_id,
    'x-voltage-delivery-id': message.delivery_id,
    'x-voltage-event': message.event,
    'x-voltage-timestamp': timestamp,
    'x-voltage-signature': signature(secret, message.body, timestamp),
    // Until a receiver has the new secret, the old one still tells it that this is ours.
    ...(previous_secret === null
      ? {}
      : { 'x-coulomb-previous-signature': signature(previous_secret, message.body, timestamp) }),
  };
}

/** Posts once; never throws. Of the answer only the status is kept, its body is thrown away unread. */
export async function post(
  dispatcher: Dispatcher,
  url: string,
  headers: Record<string, string>,
  body: string,
  timeout_ms: number,
): Promise<Outcome> {
  const abort = new AbortController();
  // For everything together; Agent's own timeouts each begin anew with what they wait for.
  const timer = setTimeout(() => abort.abort(new Timeout()), timeout_ms);
  try {
    const answer = await request(url, { method: 'POST', dispatcher, headers, body, signal: abort.signal });
    const outcome = judge(answer.statusCode, answer.headers['retry-after']);
    // Reading a short body to its end keeps the connection; a long or slow one loses it.
    answer.body.on('error', () => {});
    await answer.body.dump({ limit: MAX_BODY_BYTES, signal: abort.signal }).catch(() => {});
    return outcome;
  } catch (error) {
    return { status_code: null, error: failureOf(error, timeout_ms), asked_ms: 0 };
  } finally {
    clearTimeout(timer);
  }
}

class Timeout extends Error {
  readonly code = 'ETIMEDOUT';
}
const MAX_BODY_BYTES = 16_384;

const CODE_OF_STATUS: Record<number, string> = {
  401: 'authentication_failed',
  403: 'authentication_failed',
  413: 'payload_too_large',
};

/** What a status means: 2xx is delivered, a redirect is never followed. */
export function judge(status_code: number, retry_after: string | string[] | undefined): Outcome {
  if (status_code >= 200 && status_code < 300) return { status_code, error: null, asked_ms: 0 };
  if (status_code === 429) {
    const seconds = /^\d{1,9}$/.test(String(retry_after)) ? Number(retry_after) : 0;
    const context = { type: 'rate_limited', retry_after_seconds: seconds } as const;
    const error = { ...failed('rate_limited', 'the receiver asked to slow down'), context };
    return { status_code, error, asked_ms: seconds * 1000 };
  }
  const code =
    CODE_OF_STATUS[status_code] ??
    (status_code >= 500
      ? 'http_server_error'
      : status_code >= 400
        ? 'http_client_error'
        : 'invalid_response');
  const detail = status_code < 400 ? 'redirects are not followed' : `the receiver answered ${status_code}`;
  return {
    status_code,
    error: { ...failed(code, detail), context: { type: 'http_status', status_code } },
    asked_ms: 0,
  };
}

const failed = (code: string, detail: string): ErrorInfo => ({ type: 'delivery_failed', code, detail });

const TIMEOUTS = ['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'ETIMEDOUT'];
const REFUSED = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ENOTFOUND', 'EAI_AGAIN'];

function failureOf(error: unknown, timeout_ms: number): ErrorInfo {
  // A name with several addresses is connected to at each of them, and all of these may have failed.
  const causes = error instanceof AggregateError ? [...(error.errors as unknown[]), error] : [error];
  if (causes.some((cause) => cause instanceof BlockedAddress))
    return failed(
      'unexpected_error',
      'the address is not allowed: https on 443 or 8443, public addresses only',
    );
  const codes = causes.map((cause) => {
    const { code } = (cause ?? {}) as { code?: unknown };
    return typeof code === 'string' ? code : '';
  });
  if (codes.some((code) => TIMEOUTS.includes(code)))
    return failed('connection_timeout', `no answer within ${timeout_ms / 1000} s`);
  const refused = codes.find((code) => REFUSED.includes(code));
  if (refused !== undefined) return failed('connection_refused', `no connection: ${refused}`);
  if (error instanceof errors.HTTPParserError) return failed('invalid_response', 'the answer is not HTTP');
  return failed('unexpected_error', `no answer: ${codes.find((code) => code !== '') ?? 'unknown'}`);
}
