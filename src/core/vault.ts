import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Sql } from './db.ts';
import { writeSecret } from './secret-file.ts';
import { keepSetting, readSetting } from './settings.ts';

/** Seals what is stored and must be read again: AES-256-GCM, bound to what it belongs to. */
export interface Vault {
  /** False where the server has no key: then neither works. */
  has_key: boolean;
  seal(text: string, belongs_to: string): string;
  /** Throws when the text was changed, belongs to something else or was sealed with another key. */
  open(sealed: string, belongs_to: string): string;
}

/** Thrown when the key at hand is not the one that the database was sealed with. */
export class WrongKey extends Error {}

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const PREFIX = 'sealed1.';

/** A key as people write it, 64 hex digits or Base64 of 32 bytes; null for anything else. */
export function parseKey(text: string): Buffer | null {
  const key = Buffer.from(text, /^[0-9a-f]{64}$/i.test(text) ? 'hex' : 'base64');
  return key.length === KEY_BYTES ? key : null;
}

/** Whether a stored text is sealed. */
export const isSealed = (text: string): boolean => text.startsWith(PREFIX);

/** A vault with this key of 32 bytes. A random IV for every text: the same text never looks the same twice. */
export function createVault(key: Buffer): Vault {
  return {
    has_key: true,
    seal(text, belongs_to) {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(belongs_to));
      const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
      return PREFIX + Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64url');
    },
    open(sealed, belongs_to) {
      const bytes = Buffer.from(sealed.slice(PREFIX.length), 'base64url');
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, IV_BYTES))
        .setAAD(Buffer.from(belongs_to))
        .setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
      return (
        decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8')
      );
    },
  };
}

const withoutKey = (): never => {
  throw new WrongKey('there is no key: set COULOMB_SECRET_KEY');
};
const NO_KEY: Vault = { has_key: false, seal: withoutKey, open: withoutKey };

const CHECK = 'secret_key_check';
/** Tells one key from another, and nothing of the key. */
const checkOf = (key: Buffer): string =>
  createHmac('sha256', key).update('coulomb secret key').digest('base64url');

/**
 * The vault of a database: with the given key, or the one in `file`. For a database that has none, one is made where the
 * database is this server's own (`embedded`): of several servers on one database each would make another. Throws
 * `WrongKey` when the database was sealed with another one.
 */
export async function openVault(
  sql: Sql,
  given: Buffer | null,
  file: string,
  embedded: boolean,
  log: Logger,
): Promise<Vault> {
  let key = given;
  if (key === null && existsSync(file)) {
    key = parseKey(readFileSync(file, 'utf8').trim());
    if (key === null) throw new WrongKey(`${file} does not hold a key: 64 hex digits`);
  }
  if (key === null) {
    if ((await readSetting(sql, CHECK)) !== null) {
      throw new WrongKey(
        `the secrets in this database are sealed, and there is no key: set COULOMB_SECRET_KEY, or put the key back to ${file}`,
      );
    }
    if (!embedded) {
      log.warn('no COULOMB_SECRET_KEY is set: webhooks, whose secrets it seals, cannot be made');
      return NO_KEY;
    }
    key = randomBytes(KEY_BYTES);
    writeSecret(file, `${key.toString('hex')}\n`);
    log.info({ file }, 'a secret key was made');
  }
  if ((await keepSetting(sql, CHECK, checkOf(key))) !== checkOf(key)) {
    throw new WrongKey(
      `the secrets in this database were sealed with another key than ${given ? 'COULOMB_SECRET_KEY' : `the one in ${file}`}`,
    );
  }
  return createVault(key);
}
