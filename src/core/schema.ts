import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import { Type, type TUnsafe } from 'typebox';
import { isUuid } from './ids.ts';
import type { WireInteger } from './money.ts';

interface Notes {
  description?: string;
  deprecated?: boolean;
  minimum?: number;
  maximum?: number;
}

/** An integer of any size on the wire: number or bigint once parsed, exact either way. */
export const wireInteger = (format: 'int64' | 'u-int64', notes: Notes = {}): TUnsafe<WireInteger> =>
  Type.Unsafe<WireInteger>({ type: 'integer', format, ...notes });

const MAX_UINT32 = 2 ** 32 - 1;

/** An integer from 0 to 2^32-1. */
export const uint32 = (notes: Notes = {}): TUnsafe<number> =>
  Type.Unsafe<number>({ type: 'integer', format: 'u-int32', minimum: 0, maximum: MAX_UINT32, ...notes });

/** A UUID in either case; who stores it writes it in lower case. */
export const uuid = (notes: Notes = {}): TUnsafe<string> =>
  Type.Unsafe<string>({ type: 'string', format: 'uuid', ...notes });

/** One of these words. */
export const oneOf = <const Word extends string>(words: readonly Word[]): TUnsafe<Word> =>
  Type.Unsafe<Word>({ type: 'string', enum: words });

/** RFC 3339 date and time with an offset. */
export const dateTime = (notes: Notes = {}): TUnsafe<string> =>
  Type.Unsafe<string>({ type: 'string', format: 'date-time', ...notes });

// What PostgreSQL takes too: no year 0, offsets below 16 hours.
const DATE_TIME =
  /^(?!0000)(\d{4}-\d{2}-)(\d{2})[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-](0\d|1[0-5]):[0-5]\d)$/;

function isDateTime(text: string): boolean {
  const [, month, day] = DATE_TIME.exec(text) ?? [];
  if (month === undefined || Number.isNaN(Date.parse(text))) return false;
  // February 30 parses as March 2.
  return new Date(`${month}${day}T00:00:00Z`).getUTCDate() === Number(day);
}

const ajv = new Ajv2020({ strict: false, allErrors: true, ownProperties: true });
ajv.addFormat('uuid', isUuid);
ajv.addFormat('date-time', isDateTime);
for (const format of ['int64', 'u-int64', 'u-int32', 'u-int16', 'u-int8', 'rate', 'binary', 'uri'])
  ajv.addFormat(format, true);
ajv.addKeyword({
  keyword: 'x-wire-integer',
  schemaType: 'object',
  validate: (limits: { minimum?: number; maximum?: number }, value: unknown) =>
    (typeof value === 'bigint' || Number.isInteger(value)) &&
    (limits.minimum === undefined || (value as WireInteger) >= limits.minimum) &&
    (limits.maximum === undefined || (value as WireInteger) <= limits.maximum),
});

/**
 * The schema as ajv checks it: its `integer` does not know bigint, and `oneOf` means "at least one" here. Read literally,
 * some unions of the contract match two branches.
 */
function forValidation(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(forValidation);
  if (typeof schema !== 'object' || schema === null) return schema;
  const { type, minimum, maximum } = schema as Record<string, unknown>;
  const integer = { 'x-wire-integer': { minimum, maximum } };
  if (type === 'integer') return integer;
  if (Array.isArray(type) && type.includes('integer'))
    return { anyOf: [integer, { type: type.filter((one) => one !== 'integer') }] };
  const members = Object.entries(schema);
  return Object.fromEntries(
    members.map(([key, value]) => [key === 'oneOf' ? 'anyOf' : key, forValidation(value)]),
  );
}

function faultText({ instancePath, message, keyword, params }: ErrorObject): string {
  const path = instancePath.slice(1).replaceAll('/', '.');
  if (keyword === 'required') {
    const field = (params as { missingProperty: string }).missingProperty;
    return `${path === '' ? field : `${path}.${field}`} is required`;
  }
  if (keyword === 'x-wire-integer') return `${path} must be an integer in range`;
  if (keyword === 'enum') {
    return `${path} must be one of ${(params as { allowedValues: string[] }).allowedValues.join(', ')}`;
  }
  return `${path === '' ? 'body' : path} ${message ?? 'is not valid'}`;
}

const compiled = new WeakMap<object, ValidateFunction>();

/**
 * What is wrong with a value, naming each field; empty when nothing is. A schema is compiled once, when it is first
 * needed: a start need not wait for all of them.
 */
export function faultsIn(schema: object, value: unknown): string[] {
  let validate = compiled.get(schema);
  if (!validate) compiled.set(schema, (validate = ajv.compile(forValidation(schema) as object)));
  return validate(value) ? [] : (validate.errors ?? []).map(faultText);
}

/** Drops null members: null is absence. */
export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, member]) => member !== null);
  // Defines each member, where an assignment of the key `__proto__` would change the object's prototype instead.
  return Object.fromEntries(kept.map(([key, member]) => [key, withoutNulls(member)]));
}

/** The path of a string that contains U+0000, or null. */
export function nulCharacterIn(value: unknown, path = ''): string | null {
  if (typeof value === 'string') return value.includes('\0') ? path : null;
  if (typeof value !== 'object' || value === null) return null;
  for (const [key, member] of Object.entries(value)) {
    const here = path === '' ? key : `${path}.${key}`;
    if (key.includes('\0')) return here;
    const found = nulCharacterIn(member, here);
    if (found !== null) return found;
  }
  return null;
}
