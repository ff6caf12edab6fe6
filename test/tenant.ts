import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createKey } from '../src/admin/keys.ts';
import { setFeatures } from '../src/admin/operator.ts';
import type { Database } from '../src/core/db.ts';
import { createClient, type Client, type RequestOptions } from './client.ts';
import type { ServerProcess, TestServer } from './fixtures.ts';
import { GIVE_UP_MS } from './wait.ts';

/** A client's requests with another key. */
export const withKey = (client: Client, api_key: string): Client => ({
  request: (method, path, options: RequestOptions = {}) =>
    client.request(method, path, { ...options, headers: { 'x-api-key': api_key, ...options.headers } }),
});

/** One more environment of an organization; answers its id. */
export async function newEnvironment(
  db: Database,
  organization_id: string,
  kind: 'staging' | 'production' = 'staging',
): Promise<string> {
  const id = randomUUID();
  await db.query('INSERT INTO environments (organization_id, id, kind, name) VALUES ($1, $2, $3, $3)', [
    organization_id,
    id,
    kind,
  ]);
  return id;
}

/** One more key of an environment; answers its secret. */
export async function newKey(
  db: Database,
  scope: { organization_id: string; environment_id: string },
  permissions: string[],
): Promise<string> {
  const { organization_id, environment_id } = scope;
  const key = {
    organization_id,
    environment_id,
    name: 'test',
    permissions,
    expires_at: null,
    valid_ips: null,
  };
  return (await db.transaction((sql) => createKey(sql, key))).api_key;
}

/** Changes what a wallet may do. */
export async function setPolicies(
  { client, credentials }: TestServer,
  wallet_id: string,
  body: object,
): Promise<void> {
  const path = `/organizations/${credentials.organization_id}/wallets/${wallet_id}/policies`;
  const answer = await client.request('PATCH', path, { body });
  assert.equal(answer.status, 202, answer.text);
  assert.equal(answer.text, '');
}

/** The same tenant through another server process of the database. */
export const through = (server: TestServer, spawned: ServerProcess): TestServer => ({
  ...server,
  base_url: spawned.base_url,
  client: createClient(spawned.base_url, server.credentials.api_key),
});

/** Asks for the judgement of a send only; answers its id. */
export async function checkSend({ client, credentials }: TestServer, body: { id: string }): Promise<string> {
  const { organization_id, environment_id } = credentials;
  const path = `/organizations/${organization_id}/environments/${environment_id}/payments/check`;
  const answer = await client.request('POST', path, { body });
  assert.equal(answer.status, 202, answer.text);
  assert.equal(answer.text, '');
  return body.id;
}

/** Lets the tenant make treasury movements, and waits until its server has heard. */
export async function allowTreasury({ db, client, credentials }: TestServer): Promise<void> {
  const { organization_id, environment_id } = credentials;
  await setFeatures(db, organization_id, { treasury: true });
  const path = `/organizations/${organization_id}/environments/${environment_id}/treasury_movements`;
  const give_up_at = Date.now() + GIVE_UP_MS;
  for (;;) {
    const body = { id: randomUUID(), wallet_id: randomUUID(), payment_kind: 'bolt11', currency: 'btc' };
    const answer = await client.request('POST', path, { body });
    if (answer.status === 404) return;
    assert.ok(Date.now() < give_up_at, answer.text);
    await new Promise((done) => setTimeout(done, 10));
  }
}
