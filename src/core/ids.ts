import { randomBytes, randomUUID } from 'node:crypto';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** True for the textual form of a UUID of any version, in either case. */
export const isUuid = (text: string): boolean => UUID.test(text);

/** A random UUIDv4, for what nobody may guess (keys, holds, credits). */
export const newId = (): string => randomUUID();

/** A fresh API key: prefix `vltg_` and 256 random bits, base64url. Shown once, stored only as a hash. */
export const newApiKey = (): string => `vltg_${randomBytes(32).toString('base64url')}`;
