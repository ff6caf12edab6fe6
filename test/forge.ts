import { createHash } from 'node:crypto';
import { bech32 } from '@scure/base';
import secp256k1 from 'secp256k1';

/** The letters of bech32, each standing for its index. */
export const LETTERS = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';

/** The same invoice with words changed, signed anew. */
export function forgeInvoice(
  text: string,
  private_key: Buffer,
  change: (words: number[]) => number[],
): string {
  const { prefix, words } = bech32.decode(text as `${string}1${string}`, false);
  const data = change(words.slice(0, -104));
  const bytes = Math.ceil((data.length * 5) / 8);
  const filled = [...data, 0, 0].slice(0, Math.ceil((bytes * 8) / 5));
  const hash = createHash('sha256').update(prefix).update(bech32.fromWords(filled)).digest();
  const { signature, recid } = secp256k1.ecdsaSign(hash, private_key);
  return bech32.encode(
    prefix,
    [...data, ...bech32.toWords(Buffer.concat([signature, Uint8Array.of(recid)]))],
    false,
  );
}

/** A field of an invoice: its tag, and that many words of content. */
export const field = (tag: string, length: number): number[] => [
  LETTERS.indexOf(tag),
  length >> 5,
  length & 31,
  ...Array.from({ length }, () => 1),
];
