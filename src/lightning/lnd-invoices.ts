import { createHash, createHmac } from 'node:crypto';
import type { CancelOutcome, Invoice, InvoiceRequest, SettledInvoice } from './node.ts';
import { bytesOf, failureOf, hexOf, inTurns, isLinkFailure, type LndClient } from './lnd-client.ts';

// Receives over Lightning, on lnd. An invoice is created before the receive knows its hash: when the answer is lost, or the
// process dies before it is stored, the same reference has to find the same invoice again, never a second one.

interface AddedInvoice {
  payment_request: string;
  r_hash: Uint8Array;
}

/** An invoice as lnd shows it, as far as it is read here. */
export interface LndInvoice {
  r_hash: Uint8Array;
  r_preimage: Uint8Array;
  payment_request: string;
  state: 'OPEN' | 'SETTLED' | 'CANCELED' | 'ACCEPTED';
  amt_paid_msat: string;
  settle_index: string;
  settle_date: string;
}

export interface LndInvoicesDeps {
  client: LndClient;
  /** Preimages are derived from it and the reference: asked twice, the node holds one invoice. */
  invoice_secret: Buffer;
  /** Route hints for channels that are not announced. */
  private_hints: boolean;
}

// A node answers a few hundred of these a second; more at once only fill its queue.
const LOOKUPS_AT_ONCE = 16;

export const settledOf = (invoice: LndInvoice): SettledInvoice => ({
  payment_hash: hexOf(invoice.r_hash),
  preimage: hexOf(invoice.r_preimage),
  amount_msats: BigInt(invoice.amt_paid_msat),
  settle_index: BigInt(invoice.settle_index),
  settled_at_ms: Number(invoice.settle_date) * 1000,
});

/** What the port asks of a node's invoices, on lnd. */
export function lndInvoices({ client, invoice_secret, private_hints }: LndInvoicesDeps) {
  const lookUp = (r_hash: Buffer) => client.ask<LndInvoice>('default', 'lookupInvoice', { r_hash });

  async function create(request: InvoiceRequest): Promise<Invoice> {
    const r_preimage = createHmac('sha256', invoice_secret).update(request.reference).digest();
    const ends_at_ms = request.created_at_ms + request.expiry_seconds * 1000;
    try {
      const added = await client.ask<AddedInvoice>('default', 'addInvoice', {
        memo: request.description,
        r_preimage,
        value_msat: (request.amount_msats ?? 0n).toString(),
        // The node counts from now on; the receive's time began when it was accepted, and never ends later.
        expiry: Math.max(1, Math.floor((ends_at_ms - Date.now()) / 1000)),
        private: private_hints,
      });
      return { payment_hash: hexOf(added.r_hash), payment_request: added.payment_request };
    } catch (error) {
      // An earlier call was heard, its answer was not.
      if (!/already exists/.test(failureOf(error).details)) throw error;
      const known = await lookUp(createHash('sha256').update(r_preimage).digest());
      return { payment_hash: hexOf(known.r_hash), payment_request: known.payment_request };
    }
  }

  async function cancel(payment_hash: string): Promise<CancelOutcome> {
    try {
      await client.ask('invoices', 'cancelInvoice', { payment_hash: bytesOf(payment_hash) });
      return 'cancelled';
    } catch (error) {
      const failure = failureOf(error);
      if (isLinkFailure(failure)) return 'unknown';
      if (/already settled/.test(failure.details)) return 'settled';
      // An invoice that the node does not have can be paid by nobody.
      if (/unable to locate|already canceled/.test(failure.details)) return 'cancelled';
      // A refusal that was not met before: that nobody can pay it, it does not say.
      return 'unknown';
    }
  }

  async function settledInvoice(payment_hash: string): Promise<SettledInvoice | null> {
    try {
      const invoice = await lookUp(bytesOf(payment_hash));
      return invoice.state === 'SETTLED' ? settledOf(invoice) : null;
    } catch (error) {
      if (/unable to locate/.test(failureOf(error).details)) return null;
      throw error;
    }
  }

  return {
    // All at once: they are a batch of the caller's, which bounds it, and each waits for a commit of lnd's.
    createInvoices: (requests: readonly InvoiceRequest[]) => Promise.all(requests.map(create)),
    cancelInvoices: (hashes: readonly string[]) => inTurns(hashes, LOOKUPS_AT_ONCE, cancel),
    settledAmong: async (hashes: readonly string[]) =>
      (await inTurns(hashes, LOOKUPS_AT_ONCE, settledInvoice)).filter((invoice) => invoice !== null),
  };
}
