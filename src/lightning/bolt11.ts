import { createHash } from 'node:crypto';
import { bech32 } from '@scure/base';
import secp256k1 from 'secp256k1';
import { MAX_BTC_MSATS, MSATS_PER_BTC } from '../core/money.ts';

// Reads and writes invoices. What is judged and held here is paid by a node that reads the same text by itself: where
// decoders are known to differ (threat 1), this one refuses what the specification would let pass.

/** An invoice that no careful payer should pay; the message says why. */
export class InvalidInvoice extends Error {}

export interface DecodedInvoice {
  /** Chain: `bc`, `tb`, `tbs`, `bcrt`. */
  prefix: string;
  amount_msats: bigint | null;
  payment_hash: string;
  payment_secret: string;
  description: string | undefined;
  description_hash: string | undefined;
  created_at_ms: number;
  expiry_seconds: number;
  expires_at_ms: number;
  min_final_cltv_expiry: number;
  /** Public key that signed, hex. */
  payee_node: string;
}

const PREFIX = /^ln(bcrt|bc|tbs|tb)(?:([1-9]\d*)([munp])?)?$/;
/** What a unit of each multiplier is worth, in tenths of an msat: less than that no invoice can say. */
const TENTHS = { '': MSATS_PER_BTC * 10n, m: 1_000_000_000n, u: 1_000_000n, n: 1000n, p: 1n };
const SIGNATURE_WORDS = 104;
const TIMESTAMP_WORDS = 7;
const HASH_WORDS = 52;
const KEY_WORDS = 53;
const DEFAULT_EXPIRY_SECONDS = 3600;
const DEFAULT_MIN_FINAL_CLTV = 18;
// Far beyond any real invoice; a bound on the work that a request can cause.
const MAX_LENGTH = 7089;
const LETTERS = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
/** Feature bits that a payer here (or its node) understands, each with its optional twin. */
const KNOWN_FEATURES = new Set([8, 14, 16, 24, 48, 262]);

function readAmount(digits: string | undefined, multiplier: keyof typeof TENTHS = ''): bigint | null {
  if (digits === undefined) return null;
  const tenths = BigInt(digits) * TENTHS[multiplier];
  if (tenths % 10n !== 0n) throw new InvalidInvoice('amount is no whole number of msats');
  const amount = tenths / 10n;
  if (amount > MAX_BTC_MSATS) throw new InvalidInvoice('amount above 21,000,000 BTC');
  return amount;
}

const numberOf = (words: readonly number[]): number => words.reduce((value, word) => value * 32 + word, 0);

/** A whole number as words, most significant first, at least so many. */
function numberToWords(value: number, length = 1): number[] {
  const words: number[] = [];
  for (let rest = value; rest > 0 || words.length < length; rest = Math.floor(rest / 32)) {
    words.unshift(rest % 32);
  }
  return words;
}

// Fields that may stand once only: decoders disagree on which of two counts (lightning/bolts#1357).
const ONCE = new Set(['p', 's', 'd', 'h', 'n', 'x', 'c', '9']);
const LENGTH: Record<string, number> = { p: HASH_WORDS, s: HASH_WORDS, h: HASH_WORDS, n: KEY_WORDS };

/** The words of each field that counts; `words` begins behind the timestamp and ends before the signature. */
function readFields(words: readonly number[]): Map<string, number[]> {
  const fields = new Map<string, number[]>();
  let at = 0;
  while (at < words.length) {
    const tag = LETTERS.charAt(words[at] ?? 0);
    const from = at + 3;
    at = from + numberOf(words.slice(at + 1, from));
    if (at > words.length) throw new InvalidInvoice(`field ${tag} is cut off`);
    if (!ONCE.has(tag)) continue;
    if (fields.has(tag)) throw new InvalidInvoice(`field ${tag} is repeated`);
    const length = LENGTH[tag];
    if (length !== undefined && at - from !== length) {
      // The specification skips such a field; a later one of the same tag would be read by some and not by others.
      if (tag === 'p' || tag === 's') throw new InvalidInvoice(`field ${tag} has the wrong length`);
      continue;
    }
    fields.set(tag, words.slice(from, at));
  }
  return fields;
}

function checkFeatures(words: readonly number[]): void {
  words.forEach((word, index) => {
    for (let bit = 0; bit < 5; bit += 1) {
      const feature = (words.length - 1 - index) * 5 + bit;
      if ((word >> bit) % 2 === 1 && feature % 2 === 0 && !KNOWN_FEATURES.has(feature)) {
        throw new InvalidInvoice(`feature ${feature} is required and unknown`);
      }
    }
  });
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What is signed: the human-readable part as bytes, then the data, filled up to whole bytes with zero bits. */
function signedHash(prefix: string, data: readonly number[]): Uint8Array {
  const bytes = Math.ceil((data.length * 5) / 8);
  const filled = [...data, 0, 0].slice(0, Math.ceil((bytes * 8) / 5));
  return createHash('sha256').update(prefix).update(bech32.fromWords(filled)).digest();
}

function recoverSigner(prefix: string, data: readonly number[], signed: number[]): string {
  const signature = bech32.fromWords(signed);
  try {
    const recovery = signature[64] ?? 0;
    return hex(secp256k1.ecdsaRecover(signature.subarray(0, 64), recovery, signedHash(prefix, data)));
  } catch {
    throw new InvalidInvoice('signature is not valid');
  }
}

function readText(text: string): { prefix: string; words: number[] } {
  try {
    return bech32.decode(text as `${string}1${string}`, MAX_LENGTH);
  } catch {
    throw new InvalidInvoice('not bech32, too long, or its checksum is wrong');
  }
}

/** Decodes a BOLT 11 invoice strictly; throws `InvalidInvoice` for whatever a node might read differently. */
export function decodeInvoice(text: string): DecodedInvoice {
  const { prefix: hrp, words } = readText(text);
  const [, prefix, digits, multiplier] = PREFIX.exec(hrp) ?? [];
  if (prefix === undefined) throw new InvalidInvoice('unknown prefix or amount');
  const amount_msats = readAmount(digits, multiplier as keyof typeof TENTHS);
  const data = words.slice(0, -SIGNATURE_WORDS);
  if (data.length < TIMESTAMP_WORDS) throw new InvalidInvoice('too short');
  const fields = readFields(data.slice(TIMESTAMP_WORDS));
  const bytes = (tag: string): Uint8Array | undefined => {
    const field = fields.get(tag);
    try {
      return field && bech32.fromWords(field);
    } catch {
      throw new InvalidInvoice(`field ${tag} has stray bits`);
    }
  };
  const number = (tag: string, fallback: number): number => {
    const field = fields.get(tag);
    return field ? numberOf(field) : fallback;
  };
  const [payment_hash, payment_secret, named, description, description_hash] = ['p', 's', 'n', 'd', 'h'].map(
    bytes,
  );
  if (!payment_hash) throw new InvalidInvoice('no payment hash');
  if (!payment_secret) throw new InvalidInvoice('no payment secret');
  if (!description && !description_hash) throw new InvalidInvoice('no description');
  checkFeatures(fields.get('9') ?? []);
  const payee_node = recoverSigner(hrp, data, words.slice(-SIGNATURE_WORDS));
  // Recovery finds some key for any signature: a named payee is proof only if it is that one.
  if (named && hex(named) !== payee_node) throw new InvalidInvoice('not signed by the node it names');
  const created_at_ms = numberOf(data.slice(0, TIMESTAMP_WORDS)) * 1000;
  const expiry_seconds = number('x', DEFAULT_EXPIRY_SECONDS);
  return {
    prefix,
    amount_msats,
    payment_hash: hex(payment_hash),
    payment_secret: hex(payment_secret),
    description: description && new TextDecoder().decode(description),
    description_hash: description_hash && hex(description_hash),
    created_at_ms,
    expiry_seconds,
    expires_at_ms: created_at_ms + expiry_seconds * 1000,
    min_final_cltv_expiry: number('c', DEFAULT_MIN_FINAL_CLTV),
    payee_node,
  };
}

/** The amount of an invoice that was decoded before: its signature is not looked at again. */
export function amountOf(text: string): bigint | null {
  const lower = text.toLowerCase();
  const [, , digits, multiplier] = PREFIX.exec(lower.slice(0, lower.lastIndexOf('1'))) ?? [];
  return readAmount(digits, multiplier as keyof typeof TENTHS);
}

export interface InvoiceFields {
  prefix: string;
  amount_msats: bigint | null;
  payment_hash: Uint8Array;
  payment_secret: Uint8Array;
  description: string;
  expiry_seconds: number;
  created_at_ms: number;
  private_key: Uint8Array;
}

/** The shortest way to write an amount: the largest multiplier that divides it. */
function amountText(amount_msats: bigint | null): string {
  if (amount_msats === null) return '';
  const tenths = amount_msats * 10n;
  for (const multiplier of ['', 'm', 'u', 'n'] as const) {
    if (tenths % TENTHS[multiplier] === 0n) return `${tenths / TENTHS[multiplier]}${multiplier}`;
  }
  return `${tenths}p`;
}

// var_onion_optin and payment_secret required, basic_mpp optional: bits 8, 14 and 17.
const FEATURES = numberToWords(2 ** 8 + 2 ** 14 + 2 ** 17);
// Blocks that the last hop leaves for claiming. The sandbox's chain has no HTLCs: it is only to look like a real one.
const MIN_FINAL_CLTV = 40;

/** Writes and signs an invoice. */
export function encodeInvoice(fields: InvoiceFields): string {
  const prefix = `ln${fields.prefix}${amountText(fields.amount_msats)}`;
  const words = numberToWords(Math.floor(fields.created_at_ms / 1000), TIMESTAMP_WORDS);
  const field = (tag: string, data: number[]): void => {
    words.push(LETTERS.indexOf(tag), data.length >> 5, data.length & 31, ...data);
  };
  field('p', bech32.toWords(fields.payment_hash));
  field('s', bech32.toWords(fields.payment_secret));
  field('d', bech32.toWords(Buffer.from(fields.description)));
  field('x', numberToWords(fields.expiry_seconds));
  field('c', numberToWords(MIN_FINAL_CLTV));
  field('9', FEATURES);
  const { signature, recid } = secp256k1.ecdsaSign(signedHash(prefix, words), fields.private_key);
  words.push(...bech32.toWords(Buffer.concat([signature, Uint8Array.of(recid)])));
  return bech32.encode(prefix, words, false);
}
