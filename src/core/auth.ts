import { createHash } from 'node:crypto';
import ipaddr from 'ipaddr.js';
import type { Alarm } from './alarm.ts';
import { createLane } from './batch.ts';
import type { Clock } from './clock.ts';
import type { Database } from './db.ts';
import { ApiError } from './errors.ts';
import type { Caller, Permission } from './http.ts';

/** What a request brings to be let in. */
export interface Credentials {
  api_key: string | undefined;
  authorization: string | undefined;
  /** The client's address, after trusted proxies. */
  address: string;
}

/** Who asks; throws `missing_credentials`, `wrong_credentials`, `invalid_token` or `access_rights`. */
export type Authenticate = (credentials: Credentials) => Promise<Caller>;

interface KeyRow extends Omit<Caller, 'permissions' | 'features'> {
  secret_hash: Buffer;
  permissions: Permission[];
  valid_ips: string[] | null;
  expires_at: string | null;
  features: string[];
}

interface Entry {
  caller: Caller;
  expires_at_ms: number;
  valid_ips: string[] | null;
  read_at_ms: number;
}

// A revocation is told at once (NOTIFY); this is the bound should a message be lost.
const TRUST_MS = 5000;
const MAX_CACHED = 10_000;
/** Told of whenever a key or an organization's features changed. */
export const KEYS_CHANNEL = 'coulomb_keys';

/** What is stored of an API key: SHA-256, as the key is 256 random bits. The key itself is nowhere. */
export const hashKey = (api_key: string): Buffer => createHash('sha256').update(api_key).digest();

const READ_KEYS = `
  SELECT k.secret_hash, k.id AS key_id, k.organization_id, k.environment_id, e.kind AS environment_kind,
    k.permissions, k.valid_ips, k.expires_at, o.features
  FROM api_keys k
  JOIN environments e ON e.organization_id = k.organization_id AND e.id = k.environment_id
  JOIN organizations o ON o.id = k.organization_id
  WHERE k.secret_hash = ANY($1) AND k.revoked_at IS NULL`;

/** True when the address lies in one of the ranges (addresses or CIDR, v4 written as v6 included). */
export function addressIn(address: string, ranges: readonly string[]): boolean {
  if (!ipaddr.isValid(address)) return false;
  const own = ipaddr.process(address);
  return ranges.some((range) => {
    if (!range.includes('/'))
      return ipaddr.isValid(range) && ipaddr.process(range).toString() === own.toString();
    if (!ipaddr.isValidCIDR(range)) return false;
    const [network, bits] = ipaddr.parseCIDR(range);
    return network.kind() === own.kind() && own.match(network, bits);
  });
}

function entryOf({ secret_hash: _hash, valid_ips, expires_at, ...row }: KeyRow, read_at_ms: number): Entry {
  const permissions = new Set(row.permissions);
  if (permissions.has('WRITE')) permissions.add('READ').add('RECEIVE');
  return {
    caller: { ...row, permissions, features: new Set(row.features) },
    expires_at_ms: expires_at === null ? Number.POSITIVE_INFINITY : Date.parse(expires_at),
    valid_ips,
    read_at_ms,
  };
}

/**
 * Checks API keys. What was read is kept only while this server would be told of revocations; without that every
 * request asks the database.
 */
export function createAuthenticator({
  db,
  clock,
  alarm,
}: {
  db: Database;
  clock: Clock;
  alarm: Alarm;
}): Authenticate {
  let cache = new Map<string, Entry>();
  alarm.listen(KEYS_CHANNEL, () => (cache = new Map()));

  const lane = createLane<Buffer, KeyRow | undefined>({
    max_batch: 256,
    max_queue: 10_000,
    concurrency: 2,
    run: async (hashes) => {
      const rows = await db.query<KeyRow>(READ_KEYS, [hashes], 'read keys');
      const found = new Map(rows.map((row) => [row.secret_hash.toString('hex'), row]));
      return hashes.map((hash) => ({ ok: true, value: found.get(hash.toString('hex')) }));
    },
  });

  async function entry(api_key: string): Promise<Entry | null> {
    const now_ms = clock.now();
    const known = alarm.hears() ? cache.get(api_key) : undefined;
    if (known && Math.abs(now_ms - known.read_at_ms) < TRUST_MS) return known;
    const into = cache;
    const row = await lane.submit(hashKey(api_key));
    if (!row) return null;
    const fresh = entryOf(row, now_ms);
    // Only into the map of before the query: a revocation meanwhile has replaced it.
    if (alarm.hears()) {
      if (into.size >= MAX_CACHED) into.clear();
      into.set(api_key, fresh);
    }
    return fresh;
  }

  return async ({ api_key, authorization, address }) => {
    if (api_key === undefined) {
      if (authorization === undefined) throw new ApiError('missing_credentials', 'send an x-api-key header');
      throw new ApiError('invalid_token', 'this server accepts no bearer tokens: no issuer is configured');
    }
    const key = await entry(api_key);
    if (!key || key.expires_at_ms <= clock.now()) {
      throw new ApiError('wrong_credentials', 'the API key is unknown, revoked or expired');
    }
    if (key.valid_ips && !addressIn(address, key.valid_ips)) {
      throw new ApiError('access_rights', 'the API key may not be used from this address');
    }
    return key.caller;
  };
}
