import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Agent } from 'undici';
import { headersOf, judge, signature, post } from './attempt.ts';

test('the signature is that of the guide: HMAC-SHA256 of body, point and timestamp in padded Base64', () => {
  // Reproduced with: printf '%s' '{"a":1}.1700000000' | openssl dgst -sha256 -hmac secret -binary | base64
  assert.equal(signature('secret', '{"a":1}', '1700000000'), EXPECTED);
  const message = { webhook_id: 'w', delivery_id: 'd', event: 'completed', body: '{"a":1}' };
  const headers = headersOf(message, 'secret', null, 1_700_000_000_999);
  assert.equal(headers['x-voltage-timestamp'], '1700000000');
  assert.equal(headers['x-voltage-signature'], EXPECTED);
  assert.equal(headers['x-coulomb-previous-signature'], undefined);
  const rotated = headersOf(message, 'new', 'secret', 1_700_000_000_000);
  assert.equal(rotated['x-coulomb-previous-signature'], EXPECTED);
});
const EXPECTED = 'gzK6z0ZnDJb8eiE3Jm+5K+uERwY9fFj7bIEE9Pag2gw=';

test('only 2xx is delivered; every other status has its code, and a redirect is never followed', () => {
  const expected: [string, number[]][] = [
    ['succeeded', [200, 204, 299]],
    ['invalid_response', [301, 307]],
    ['http_client_error', [400, 404, 410]],
    ['authentication_failed', [401, 403]],
    ['payload_too_large', [413]],
    ['rate_limited', [429]],
    ['http_server_error', [500, 503]],
  ];
  for (const [code, statuses] of expected) {
    for (const status of statuses) assert.equal(judge(status, undefined).error?.code ?? 'succeeded', code);
  }
  const slow = judge(429, '120');
  assert.deepEqual(slow.error?.context, { type: 'rate_limited', retry_after_seconds: 120 });
  assert.equal(slow.asked_ms, 120_000);
  assert.equal(judge(429, 'Fri, 31 Dec 1999 23:59:59 GMT').asked_ms, 0);
});

test('an attempt without an answer in its time has failed with connection_timeout', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  const agent = new Agent();
  const outcome = await post(agent, `http://127.0.0.1:${port}/`, {}, '{}', 50);
  assert.equal(outcome.status_code, null);
  assert.equal(outcome.error?.code, 'connection_timeout');
  await agent.destroy();
  silent.closeAllConnections();
  silent.close();
});
