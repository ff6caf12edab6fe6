import type { Payment } from './types.ts';

// Events keep the payment's row as JSON text, as it was when they happened; this makes of it what the database would give.

type IntegerColumn = {
  [Name in keyof Payment]: bigint extends Payment[Name] ? Name : never;
}[keyof Payment];

/** Columns that are bigints here and strings in JSON; the compiler knows which these are. */
const INTEGERS: Record<IntegerColumn, true> = {
  amount: true,
  max_fee: true,
  network_fee: true,
  processing_fee: true,
  requested: true,
  payable: true,
  received: true,
  suspended: true,
  gross: true,
  credited: true,
  hold_amount: true,
  node_index: true,
};
const COLUMNS = Object.keys(INTEGERS) as IntegerColumn[];

/** Orders names as the database does in a column of JSON: shorter ones first, those of one length by their bytes. */
const before = (a: string, b: string): number =>
  Buffer.byteLength(a) - Buffer.byteLength(b) || Buffer.compare(Buffer.from(a), Buffer.from(b));

/** A value as it comes out of a column of JSON: an event and the payment's row are shown with the same bytes. */
function asColumn(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(asColumn);
  const fields = Object.entries(value).sort(([a], [b]) => before(a, b));
  return Object.fromEntries(fields.map(([name, field]) => [name, asColumn(field)]));
}

/** The payment that an event keeps as JSON text. A column that is younger than the event has to get its value here. */
export function storedPayment(text: string): Payment {
  const row = JSON.parse(text) as Record<string, unknown>;
  for (const [name, value] of Object.entries(row)) row[name] = asColumn(value);
  for (const name of COLUMNS) row[name] = row[name] == null ? null : BigInt(row[name] as string | number);
  return row as unknown as Payment;
}
