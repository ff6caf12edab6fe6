import { ApiError } from '../core/errors.ts';
import { requireFeature } from '../core/features.ts';
import { MAX_BTC_MSATS, MAX_CENTS, MSATS_PER_SAT, divideUp, maxOf } from '../core/money.ts';
import { checkAddress } from '../lightning/address.ts';
import { parseBip21, InvalidUri } from '../lightning/bip21.ts';
import { decodeInvoice, InvalidInvoice, type DecodedInvoice } from '../lightning/bolt11.ts';
import type { ChainParams } from '../lightning/node.ts';
import {
  belowMinimum,
  givenAmount,
  givenMaxFee,
  type GivenAmount,
  type ReceiveBody,
  type SendBody,
} from './request.ts';
import type { Draft, Kind } from './types.ts';

// What a request alone decides: pure, without a wallet's balance, a database or a node. The order of the checks is part of
// the contract where a request has several faults: clients see the first.

const DEFAULT_EXPIRATION_SECONDS = 3600;
const MAX_EXPIRATION_SECONDS = 86_400;
/** The most that a BOLT 11 `d` field holds: 1023 five-bit words. */
const MAX_DESCRIPTION_BYTES = 639;
/** Dust of the addresses that nodes give out here (P2WPKH): a receive below it cannot be paid on-chain. */
export const RECEIVE_DUST_MSATS = 294n * MSATS_PER_SAT;

/** The contract's: 1 % of a small payment would pay no route, and no transaction at all. */
const DEFAULT_FEE_FLOOR_MSATS = { lightning: 1000n, onchain: 263_000n };

const requiredField = (
  type: 'amount_required' | 'missing_payment_request' | 'missing_address',
  field: string,
) => new ApiError(type, `${field} is required`, { code: 'required', context: { field, required: true } });

/** Refuses what the organization has switched off, or what no deployment offers yet. */
export function checkFeatures(
  features: ReadonlySet<string>,
  kind: string,
  flow_preference: unknown,
  is_treasury: boolean,
): void {
  const needed = ['payments'];
  if (is_treasury) needed.push('treasury');
  if (kind === 'taprootasset') needed.push('assets');
  if (kind === 'onchain' || kind === 'bip21') needed.push(kind);
  if (flow_preference !== undefined && flow_preference !== 'direct') needed.push('swaps');
  for (const feature of needed) requireFeature(features, feature, { code: 'disabled' });
}

const MOST = {
  btc: { value: MAX_BTC_MSATS, says: 'is more than 21,000,000 BTC' },
  usd: { value: MAX_CENTS, says: 'is too large' },
};

/** Judges an amount by the rules that hold on every rail; answers msats of bitcoin, cents of dollars. */
function checkAmount(
  field: string,
  given: GivenAmount,
  currency: keyof typeof MOST = 'btc',
  type: 'invalid_amount' | 'invalid_max_fee' = 'invalid_amount',
): bigint {
  if (given.currency !== currency)
    throw new ApiError('invalid_currency', `${field}.currency must be ${currency}`);
  // A fee cap may be nothing: then only what costs no fee is sent.
  const least = type === 'invalid_amount' ? 1n : 0n;
  if (given.value < least) throw belowMinimum(type, field, given, least);
  const most = MOST[currency];
  if (given.value > most.value) throw new ApiError('invalid_amount', `${field} ${most.says}`);
  return given.value;
}

function checkWholeSats(field: string, amount: bigint): void {
  if (amount % MSATS_PER_SAT !== 0n) {
    throw new ApiError('invalid_amount', `${field} must be whole sats (a multiple of 1000 msats) on-chain`);
  }
}

/** Refuses a receive at an address whose total is dust there. */
export const checkReceiveDust = (payable: bigint): void => checkDust('amount', payable, RECEIVE_DUST_MSATS);

function checkDust(field: string, amount: bigint, dust_msats: bigint): void {
  if (amount < dust_msats) {
    throw belowMinimum('invalid_on_chain_payment', field, { currency: 'btc', value: amount }, dust_msats);
  }
}

/** Turns a validated receive body into a draft, or throws the contract's refusal. */
export function draftReceive(body: ReceiveBody, wallet_currency: string): Draft {
  const kind = body.payment_kind as Kind;
  const given = givenAmount(body);
  if (body.currency !== undefined && body.currency !== wallet_currency) {
    throw new ApiError('invalid_currency', `currency must be ${wallet_currency}, the wallet's`);
  }
  const inDollars = wallet_currency === 'usd';
  if (!given && (inDollars || kind === 'onchain')) throw requiredField('amount_required', 'amount');
  const requested = given && inDollars ? checkAmount('amount', given, 'usd') : null;
  const amount = given && !inDollars ? checkAmount('amount', given) : null;
  if (amount !== null && kind !== 'bolt11') checkWholeSats('amount', amount);
  if (amount !== null && kind === 'onchain') checkReceiveDust(amount);
  const faults: string[] = [];
  const expiration = Number(body.expiration ?? DEFAULT_EXPIRATION_SECONDS);
  if (expiration < 1 || expiration > MAX_EXPIRATION_SECONDS) faults.push('expiration');
  const description = body.description ?? null;
  if (description !== null && Buffer.byteLength(description) > MAX_DESCRIPTION_BYTES)
    faults.push('description');
  if (faults.length > 0) {
    throw new ApiError('invalid_receive_payment', `not acceptable: ${faults.join(', ')}`, {
      code: 'validation_failed',
      context: { fields: faults },
    });
  }
  return { ...EMPTY, direction: 'receive', kind, amount, requested, description, expiration };
}

const EMPTY = {
  amount: null,
  requested: null,
  max_fee: null,
  payment_hash: null,
  payment_request: null,
  address: null,
  description: null,
  expiration: null,
};

export interface SendContext {
  chain: ChainParams;
  now_ms: number;
  wallet_currency: string;
}

/** Turns a validated send body into a draft, or throws the contract's refusal. */
export function draftSend(body: SendBody, context: SendContext): Draft {
  if (body.currency !== context.wallet_currency) {
    throw new ApiError('invalid_currency', `currency must be ${context.wallet_currency}, the wallet's`);
  }
  const { data } = body;
  if (data.description !== undefined && data.description.length === 0) {
    throw new ApiError('invalid_description', 'data.description must not be empty', {
      code: 'too_short',
      context: { field: 'data.description', min_length: 1 },
    });
  }
  if (body.type === 'bolt11')
    return draftInvoice(body, context, data.payment_request ?? '', givenAmount(data));
  if (body.type === 'onchain') {
    return draftAddress(body, context, data.address ?? '', givenAmount(data), data.description ?? null);
  }
  return draftBip21(body, context);
}

function draftBip21(body: SendBody, context: SendContext): Draft {
  const { data } = body;
  if (data.address === undefined || data.address === '')
    throw requiredField('missing_address', 'data.address');
  if (data.payment_request === '') throw requiredField('missing_payment_request', 'data.payment_request');
  let uri: ReturnType<typeof parseBip21>;
  try {
    uri = parseBip21(data.address);
  } catch (error) {
    if (error instanceof InvalidUri) throw new ApiError('invalid_address', `data.address: ${error.message}`);
    throw error;
  }
  // What the URI says wins over the explicit fields (payments.md section 6).
  const given =
    uri.amount_msats === undefined ? givenAmount(data) : { currency: 'btc', value: uri.amount_msats };
  const description = uri.description ?? data.description ?? null;
  const invoice = uri.payment_request ?? data.payment_request;
  // Judged even where the invoice is paid: the payment shows it, and a policy may be about it.
  if (uri.address !== undefined) checkTo(uri.address, context.chain);
  if (invoice === undefined) {
    return draftAddress(body, context, uri.address ?? '', given, description);
  }
  const draft = draftInvoice(body, context, invoice, given);
  return { ...draft, address: uri.address ?? null, description: description ?? draft.description };
}

/** Decodes an invoice and holds it against the chain and the clock; throws the contract's refusals. */
function readInvoice(payment_request: string, { chain, now_ms }: SendContext): DecodedInvoice {
  let invoice: DecodedInvoice;
  try {
    invoice = decodeInvoice(payment_request);
  } catch (error) {
    if (!(error instanceof InvalidInvoice)) throw error;
    throw new ApiError('invalid_bolt11_payment_request', `the invoice cannot be read: ${error.message}`);
  }
  if (invoice.prefix !== chain.invoice_prefix) {
    throw new ApiError('invalid_network', `the invoice is for another network (ln${invoice.prefix})`);
  }
  if (invoice.expires_at_ms <= now_ms) {
    throw new ApiError('invalid_bolt11_payment_request', 'the invoice has expired');
  }
  return invoice;
}

function draftInvoice(
  body: SendBody,
  context: SendContext,
  payment_request: string,
  given: GivenAmount | null,
): Draft {
  if (payment_request === '') throw requiredField('missing_payment_request', 'data.payment_request');
  const amount = given ? checkAmount('data.amount', given) : null;
  const invoice = readInvoice(payment_request, context);
  if (amount !== null && invoice.amount_msats !== null && amount !== invoice.amount_msats) {
    throw new ApiError(
      'amount_match_failed',
      `the invoice asks for ${invoice.amount_msats} msats, not ${amount}`,
    );
  }
  // What is signed by the payee comes first; an amount beside it can only be the same.
  const principal = invoice.amount_msats ?? amount;
  if (principal === null) throw requiredField('amount_required', 'data.amount');
  return {
    ...EMPTY,
    direction: 'send',
    kind: body.type as Kind,
    amount: principal,
    max_fee: maxFee(body, principal, 'lightning'),
    payment_hash: invoice.payment_hash,
    // Scanners hand out upper-case invoices; one spelling is stored, shown and given to nodes.
    payment_request: payment_request.toLowerCase(),
    description: invoice.description ?? null,
  };
}

function checkTo(address: string, chain: ChainParams): bigint {
  const checked = checkAddress(address, chain);
  if (!checked.ok) {
    throw new ApiError(checked.fault, `data.address: ${checked.detail}`);
  }
  return checked.dust_sats * MSATS_PER_SAT;
}

function draftAddress(
  body: SendBody,
  context: SendContext,
  address: string,
  given: GivenAmount | null,
  description: string | null,
): Draft {
  if (address === '') throw requiredField('missing_address', 'data.address');
  if (!given) throw requiredField('amount_required', 'data.amount');
  const amount = checkAmount('data.amount', given);
  checkWholeSats('data.amount', amount);
  checkDust('data.amount', amount, checkTo(address, context.chain));
  // BIP21 keeps the Lightning default even where it ends on-chain (payments.md section 4).
  const rail = body.type === 'bip21' ? 'lightning' : 'onchain';
  return {
    ...EMPTY,
    direction: 'send',
    kind: body.type as Kind,
    amount,
    max_fee: maxFee(body, amount, rail),
    address,
    description,
  };
}

/** The fee cap given, or the default: the greater of 1 % and a floor per rail. In msats. */
function maxFee(body: SendBody, amount: bigint, rail: keyof typeof DEFAULT_FEE_FLOOR_MSATS): bigint {
  const given = givenMaxFee(body.data);
  if (!given) return maxOf(divideUp(amount, 100n), DEFAULT_FEE_FLOOR_MSATS[rail]);
  return checkAmount('data.max_fee', given, 'btc', 'invalid_max_fee');
}
