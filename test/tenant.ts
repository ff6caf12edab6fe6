import { randomUUID } from 'node:crypto';
import { createKey } from '../src/admin/keys.ts';
import type { Database } from '../src/core/db.ts';
import type { Client, RequestOptions } from './client.ts';

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
