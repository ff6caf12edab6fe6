import { randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Writes a file that only this user can read. It is there whole or not at all, whenever the process dies: a key that is
 * half written would lock its database for ever.
 */
export function writeSecret(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fresh = `${path}.${randomBytes(4).toString('hex')}`;
  writeFileSync(fresh, text, { mode: 0o600 });
  renameSync(fresh, path);
}
