import type { Payment } from './types.ts';

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

/** The payment that an event keeps as JSON text. A column that is younger than the event has to get its value here. */
export function storedPayment(text: string): Payment {
  const row = JSON.parse(text) as Record<string, string | number | bigint | null>;
  for (const name of COLUMNS) row[name] = row[name] == null ? null : BigInt(row[name]);
  return row as unknown as Payment;
}
