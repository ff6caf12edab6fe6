import { Decimal } from '@scure/btc-signer';
import { MAX_BTC_MSATS, MSATS_PER_BTC, toMsats } from '../core/money.ts';

// What wallets put into QR codes (BIP 21, with the `lightning` parameter that they agreed on). Payments read it before a
// send and write it for a receive; who pays a URI sees only what is read here, so doubt refuses instead of guessing.

/** A URI that must not be paid; the message says why. */
export class InvalidUri extends Error {}

/** What a BIP 21 URI (or a plain address) asks for. */
export interface PaymentUri {
  address?: string;
  amount_msats?: bigint;
  payment_request?: string;
  description?: string;
}

const AMOUNT = /^(\d{1,8})(?:\.(\d{1,8}))?$/;
// Room for the longest invoice that is read beside an address and a label.
const MAX_LENGTH = 8192;

/** A decimal amount of BTC as msats, without ever being a float. */
function readAmount(text: string): bigint {
  const [, whole, fraction = ''] = AMOUNT.exec(text) ?? [];
  if (whole === undefined)
    throw new InvalidUri('amount must be a decimal number of BTC with at most 8 places');
  const amount = BigInt(whole) * MSATS_PER_BTC + toMsats(BigInt(fraction.padEnd(8, '0')));
  if (amount > MAX_BTC_MSATS) throw new InvalidUri('amount is above 21,000,000 BTC');
  return amount;
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidUri('percent-encoding is broken');
  }
}

/** bech32 may be written in upper case, for smaller QR codes; one spelling is used here. */
const normalAddress = (address: string): string =>
  /^(BC|TB|BCRT)1[0-9A-Z]+$/.test(address) ? address.toLowerCase() : address;

function readParameters(query: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const part of query.split('&')) {
    if (part === '') continue;
    const [key, ...rest] = part.split('=') as [string, ...string[]];
    const name = decodePart(key).toLowerCase();
    // BIP 21: who does not understand a required parameter must not pay.
    if (name.startsWith('req-')) throw new InvalidUri(`${name} is required and not understood`);
    // Which of two counts, wallets disagree: one shows an amount or address and another pays the other.
    if (found.has(name)) throw new InvalidUri(`${name} is given twice`);
    found.set(name, decodePart(rest.join('=')));
  }
  return found;
}

/** Reads a `bitcoin:` or `lightning:` URI or a plain address. Throws `InvalidUri`. */
export function parseBip21(text: string): PaymentUri {
  if (text.length > MAX_LENGTH) throw new InvalidUri('too long');
  const lightning = /^lightning:(?:\/\/)?/i.exec(text);
  if (lightning) return { payment_request: text.slice(lightning[0].length) };
  if (!/^bitcoin:/i.test(text)) {
    if (/[:?&=\s]/.test(text)) throw new InvalidUri('neither a bitcoin: URI nor an address');
    return { address: normalAddress(text) };
  }
  const [path, ...query] = text.slice('bitcoin:'.length).split('?') as [string, ...string[]];
  const address = decodePart(path);
  const parameters = readParameters(query.join('?'));
  const amount = parameters.get('amount');
  const invoice = parameters.get('lightning');
  const description = parameters.get('label') ?? parameters.get('message');
  if (address === '' && !invoice) throw new InvalidUri('no address');
  return {
    ...(address === '' ? {} : { address: normalAddress(address) }),
    ...(amount === undefined ? {} : { amount_msats: readAmount(amount) }),
    ...(invoice ? { payment_request: invoice } : {}),
    ...(description ? { description } : {}),
  };
}

export interface UriFields {
  address: string;
  amount_sats?: bigint;
  invoice?: string;
  label?: string;
}

/** Writes a `bitcoin:` URI; the amount in BTC without trailing zeros. */
export function formatBip21({ address, amount_sats, invoice, label }: UriFields): string {
  const parameters: string[] = [];
  if (amount_sats !== undefined) parameters.push(`amount=${Decimal.encode(amount_sats)}`);
  if (label) parameters.push(`label=${encodeURIComponent(label)}`);
  if (invoice !== undefined) parameters.push(`lightning=${invoice}`);
  return `bitcoin:${address}${parameters.length > 0 ? `?${parameters.join('&')}` : ''}`;
}
