/** Big-endian bytes of five-bit words, as BOLT 11 packs them; spare bits are cut off, or filled up to a last byte. */
export function wordsToBytes(
  words: readonly number[] | Uint8Array,
  from: number,
  to: number,
  spare: 'cut' | 'filled' = 'cut',
): Uint8Array {
  const size = ((to - from) * 5) / 8;
  const bytes = new Uint8Array(spare === 'cut' ? Math.floor(size) : Math.ceil(size));
  let value = 0;
  let bits = 0;
  let at = 0;
  for (let index = from; index < to; index += 1) {
    value = ((value << 5) | (words[index] ?? 0)) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes[at] = (value >> bits) & 0xff;
      at += 1;
    }
  }
  if (at < bytes.length) bytes[at] = (value << (8 - bits)) & 0xff;
  return bytes;
}

/** True when the bits after the last whole byte are zero, as the specification demands. */
export function paddingIsZero(words: readonly number[] | Uint8Array, from: number, to: number): boolean {
  const spare = ((to - from) * 5) % 8;
  if (spare >= 5) return false;
  return ((words[to - 1] ?? 0) & ((1 << spare) - 1)) === 0;
}

/** Bytes as five-bit words, the last one filled with zero bits. */
export function bytesToWords(bytes: Uint8Array): number[] {
  const words: number[] = [];
  let value = 0;
  let bits = 0;
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0x1fff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      words.push((value >> bits) & 31);
    }
  }
  if (bits > 0) words.push((value << (5 - bits)) & 31);
  return words;
}

/** A whole number of up to 53 bits as words, most significant first, at least one. */
export function numberToWords(value: number, length = 0): number[] {
  const words: number[] = [];
  for (let rest = value; rest > 0 || words.length < Math.max(1, length); rest = Math.floor(rest / 32)) {
    words.unshift(rest % 32);
  }
  return words;
}

export function wordsToNumber(words: readonly number[] | Uint8Array, from: number, to: number): number {
  let value = 0;
  for (let index = from; index < to; index += 1) value = value * 32 + (words[index] ?? 0);
  return value;
}
