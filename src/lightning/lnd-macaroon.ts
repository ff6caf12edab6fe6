import { createHmac } from 'node:crypto';
import { failureOf, isLinkFailure, type LndClient } from './lnd-client.ts';

// What a macaroon allows, and how one is narrowed: a call to pay carries one that ends, so that a copy of the call which a
// link delivers late is refused by the node itself (docs/decisions/0006).

/** Every method that is called: the smallest macaroon that works. `lncli bakemacaroon uri:…` (README). */
const METHODS = [
  '/lnrpc.Lightning/GetInfo',
  '/lnrpc.Lightning/CheckMacaroonPermissions',
  '/lnrpc.Lightning/AddInvoice',
  '/lnrpc.Lightning/LookupInvoice',
  '/lnrpc.Lightning/SubscribeInvoices',
  '/invoicesrpc.Invoices/CancelInvoice',
  '/routerrpc.Router/SendPaymentV2',
  '/routerrpc.Router/TrackPaymentV2',
  '/lnrpc.Lightning/ListPayments',
  '/lnrpc.Lightning/NewAddress',
  '/lnrpc.Lightning/GetTransactions',
  '/lnrpc.Lightning/SubscribeTransactions',
  '/chainrpc.ChainNotifier/RegisterBlockEpochNtfn',
  '/walletrpc.WalletKit/EstimateFee',
  '/walletrpc.WalletKit/FundPsbt',
  '/walletrpc.WalletKit/FinalizePsbt',
  '/walletrpc.WalletKit/PublishTransaction',
  '/walletrpc.WalletKit/ListLeases',
  '/walletrpc.WalletKit/ReleaseOutput',
  '/lnrpc.Lightning/ChannelBalance',
  '/lnrpc.Lightning/WalletBalance',
  '/lnrpc.Lightning/ListChannels',
  '/lnrpc.Lightning/PendingChannels',
  '/lnrpc.Lightning/ClosedChannels',
  '/lnrpc.Lightning/ForwardingHistory',
] as const;

// Binary macaroons, version 2: … end of caveats (0x00), signature (field 6, 32 bytes).
const VERSION = 2;
const END = 0;
const IDENTIFIER = 2;
const SIGNATURE = 6;
const SIGNATURE_BYTES = 32;
const TAIL_BYTES = 1 + 2 + SIGNATURE_BYTES;

/**
 * Adds a caveat of the first party: the node then refuses the macaroon unless the condition holds.
 * Source: the macaroon format of go-macaroon (libmacaroons v2), as lnd reads it.
 */
function withCaveat(macaroon: Buffer, condition: string): Buffer {
  const tail = macaroon.subarray(-TAIL_BYTES);
  if (macaroon[0] !== VERSION || tail[0] !== END || tail[1] !== SIGNATURE || tail[2] !== SIGNATURE_BYTES) {
    throw new Error('not a binary macaroon of version 2');
  }
  const caveat = Buffer.from(condition);
  if (caveat.length > 127) throw new Error('caveat too long'); // its length is written as one byte
  const signature = createHmac('sha256', tail.subarray(3)).update(caveat).digest();
  return Buffer.concat([
    macaroon.subarray(0, -TAIL_BYTES),
    Buffer.from([IDENTIFIER, caveat.length]),
    caveat,
    Buffer.from([END, END, SIGNATURE, SIGNATURE_BYTES]),
    signature,
  ]);
}

/** A macaroon that the node refuses from `at_ms` on, by its own clock. */
export const withDeadline = (macaroon: Buffer, at_ms: number): Buffer =>
  withCaveat(macaroon, `time-before ${new Date(at_ms).toISOString()}`);

/** Part of connecting: a link that swallows everything is found out soon. */
const CHECK_TIMEOUT_MS = 5000;

async function isValid(client: LndClient, macaroon: Buffer, fullMethod: string): Promise<boolean> {
  try {
    const asked = { macaroon, fullMethod, check_default_perms_from_full_method: true };
    const method = 'checkMacaroonPermissions';
    return (await client.ask<{ valid: boolean }>('default', method, asked, CHECK_TIMEOUT_MS)).valid;
  } catch (error) {
    // lnd answers a macaroon that does not suffice, or is over, with an error instead of `valid: false`.
    if (isLinkFailure(failureOf(error))) throw error;
    return false;
  }
}

/** The methods that a macaroon does not allow. */
export async function missingMethods(client: LndClient, macaroon: Buffer): Promise<string[]> {
  const allowed = await Promise.all(METHODS.map((method) => isValid(client, macaroon, method)));
  return METHODS.filter((_method, index) => !allowed[index]);
}

const PROBE = '/lnrpc.Lightning/GetInfo';
// Finer than any margin that uses it; a clock further off than a day is nobody's clock.
const FINEST_MS = 1000;
const FARTHEST_MS = 86_400_000;

/**
 * How far the node's clock is ahead of ours, in ms, within a second. lnd tells no time, but it judges
 * macaroons by it: one that ends at T is valid exactly while the node's clock is before T.
 */
export async function clockAhead(client: LndClient, macaroon: Buffer): Promise<number> {
  // Outwards in steps of four, then halving: two questions where the clocks agree, some 25 where they are a day apart.
  const isBefore = (ahead_ms: number) =>
    isValid(client, withDeadline(macaroon, Date.now() + ahead_ms), PROBE);
  let low = -FINEST_MS;
  let high = FINEST_MS;
  while (!(await isBefore(high))) {
    if (high > FARTHEST_MS) throw new Error("the node's clock is more than a day ahead");
    low = high;
    high *= 4;
  }
  while (await isBefore(low)) {
    if (-low > FARTHEST_MS) throw new Error("the node's clock is more than a day behind");
    high = low;
    low *= 4;
  }
  while (high - low > 2 * FINEST_MS) {
    const middle = (low + high) / 2;
    if (await isBefore(middle)) high = middle;
    else low = middle;
  }
  return Math.round((low + high) / 2);
}
