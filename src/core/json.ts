// A run of 16 digits may be an integer that a double cannot hold; anything shorter always fits.
const LONG_NUMBER = /[\d.]{16}/;

const exact = (_key: string, value: unknown, context?: { source?: string }): unknown => {
  const source = context?.source;
  if (typeof value !== 'number' || source === undefined) return value;
  if (/^-?\d+$/.test(source)) return Number.isSafeInteger(value) ? value : BigInt(source);
  // `100.00000000000000001` would become a whole number. An object in its place is what every schema refuses.
  return source.length >= 16 ? { inexact_number: source } : value;
};

/** Parses JSON without rounding: integers beyond 2^53 become bigint. Throws SyntaxError. */
export function parseJson(text: string): unknown {
  return LONG_NUMBER.test(text) ? JSON.parse(text, exact) : JSON.parse(text);
}

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);
declare global {
  interface JSON {
    rawJSON(text: string): object;
  }
}

const replaceBigints = (_key: string, value: unknown): unknown => {
  if (typeof value !== 'bigint') return value;
  return value <= MAX_SAFE && value >= -MAX_SAFE ? Number(value) : JSON.rawJSON(value.toString());
};

/** A body that is JSON text already. */
export class RawJson {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** Marks text as the JSON of a whole answer. */
export const rawJson = (text: string): RawJson => new RawJson(text);

/** Writes JSON with every bigint as an exact integer. */
export const stringifyJson = (value: unknown): string =>
  value instanceof RawJson ? value.text : JSON.stringify(value, replaceBigints);
