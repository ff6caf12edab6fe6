import { randomUUID } from 'node:crypto';

/** Whose something is: an environment of an organization. */
export interface EnvironmentRef {
  organization_id: string;
  environment_id: string;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** True for the textual form of a UUID of any version, in either case. */
export const isUuid = (text: string): boolean => UUID.test(text);

/** A random UUIDv4, for what nobody may guess (keys, holds, credits). */
export const newId = (): string => randomUUID();
