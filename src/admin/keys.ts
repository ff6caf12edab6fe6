import { randomBytes } from 'node:crypto';
import ipaddr from 'ipaddr.js';
import { hashKey, KEYS_CHANNEL } from '../core/auth.ts';
import type { Database, Sql } from '../core/db.ts';
import { PERMISSIONS } from '../core/http.ts';
import { newId, type EnvironmentRef } from '../core/ids.ts';
import { trail } from './trail.ts';

// API keys as the operator makes and ends them. A key leaves this process once, to whoever asked for it: the database
// has its hash, logs and trail its id (threat 15).

export interface NewKey extends EnvironmentRef {
  name: string;
  permissions: readonly string[];
  expires_at: string | null;
  valid_ips: readonly string[] | null;
}

/** A key with a range that is none, or an end that is no time, would be found out by who is kept out. */
function checkKey(key: NewKey): void {
  for (const permission of key.permissions) {
    if (!PERMISSIONS.some((known) => known === permission))
      throw new Error(`unknown permission ${permission}: use ${PERMISSIONS.join(', ')}`);
  }
  if (key.permissions.length === 0) throw new Error('a key needs at least one permission');
  if (key.expires_at !== null && Number.isNaN(Date.parse(key.expires_at))) {
    throw new Error(`--expires-at must be a date and time, not ${key.expires_at}`);
  }
  for (const range of key.valid_ips ?? []) {
    if (!ipaddr.isValid(range) && !ipaddr.isValidCIDR(range))
      throw new Error(`not an address or CIDR range: ${range}`);
  }
}

/** Makes an API key; the only time that it is readable. */
export async function createKey(sql: Sql, key: NewKey): Promise<{ id: string; api_key: string }> {
  checkKey(key);
  const id = newId();
  // 256 random bits; shown once, stored only as a hash.
  const api_key = `vltg_${randomBytes(32).toString('base64url')}`;
  await sql.query(
    `INSERT INTO api_keys (organization_id, id, environment_id, name, secret_hash, permissions, valid_ips, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      key.organization_id,
      id,
      key.environment_id,
      key.name,
      hashKey(api_key),
      key.permissions,
      key.valid_ips,
      key.expires_at,
    ],
  );
  const { organization_id, ...detail } = key;
  await trail(sql, 'keys create', organization_id, { id, ...detail });
  return { id, api_key };
}

/** Every key, newest first; never the keys themselves. */
export const listKeys = (sql: Sql): Promise<Record<string, unknown>[]> =>
  sql.query(
    `SELECT id, name, organization_id, environment_id, permissions, valid_ips, created_at, expires_at, revoked_at
     FROM api_keys ORDER BY created_at DESC, id LIMIT 10000`,
  );

/**
 * Tells every server that keys or features changed. Call it after the commit: a server that reads at once must not
 * find, and keep, what was before. Inside the transaction it would also hold NOTIFY's lock of the whole cluster.
 */
export const tellServers = (db: Database): Promise<unknown> => db.query(`NOTIFY ${KEYS_CHANNEL}`);

/** Revokes a key; servers know at once. Repeated, it keeps the first time. Throws when there is none. */
export async function revokeKey(db: Database, id: string): Promise<void> {
  await db.transaction(async (sql) => {
    const [key] = await sql.query<{ organization_id: string }>(
      'UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING organization_id',
      [id],
    );
    if (!key) throw new Error(`no key ${id}`);
    await trail(sql, 'keys revoke', key.organization_id, { id });
  });
  await tellServers(db);
}
