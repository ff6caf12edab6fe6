import type { InvoiceRequest, LightningNode } from '../lightning/node.ts';
import { advance, advanceAll, PAUSE_MS, type Engine, type Step } from './engine.ts';
import { failReceiveCommand, generatedCommand } from './receive.ts';
import { RECEIVE_DUST_MSATS } from './rules.ts';
import { receiveFailed, refKey, type Payment } from './types.ts';

// The first step of a receive: the node makes an invoice, an address, or both. After a death between its answer and our
// commit they are asked for again, under the same reference: the node makes no second invoice, and an address that it gave
// the first time was shown to nobody.

const wantsInvoice = (payment: Payment): boolean => payment.kind !== 'onchain';

/** A bip21 receive too small for the chain is a URI with the invoice only. */
const wantsAddress = (payment: Payment): boolean =>
  payment.kind === 'onchain' ||
  (payment.kind === 'bip21' && (payment.payable === null || payment.payable >= RECEIVE_DUST_MSATS));

/** Has the node make the invoices and addresses of new receives, and stores them. */
export const generate: Step = async (engine, node, payments) => {
  if (!node.reachable()) return waitForNode(engine, payments, 'not connected');
  // A real node makes one after the other: each is stored as it comes, none waits for the last of its batch.
  const groups = node.sandbox ? [payments] : payments.map((payment) => [payment]);
  await Promise.all(groups.map((group) => makeOrWait(engine, node, group)));
};

async function makeOrWait(engine: Engine, node: LightningNode, payments: readonly Payment[]): Promise<void> {
  try {
    await make(engine, node, payments);
  } catch (error) {
    // One that the node does not take must not keep the others waiting.
    if (payments.length === 1 || !node.reachable()) return waitForNode(engine, payments, error);
    for (const payment of payments) await makeOrWait(engine, node, [payment]);
  }
}

async function make(engine: Engine, node: LightningNode, payments: readonly Payment[]): Promise<void> {
  const invoiced = payments.filter(wantsInvoice);
  const addressed = payments.filter(wantsAddress);
  const [invoices, addresses] = await Promise.all([
    node.createInvoices(invoiced.map(invoiceRequest)),
    addressed.length > 0 ? node.newAddresses(addressed.map(refKey)) : [],
  ]);
  const invoiceOf = new Map(invoiced.map((payment, index) => [payment, invoices[index] ?? null]));
  const addressOf = new Map(addressed.map((payment, index) => [payment, addresses[index] ?? null]));
  await Promise.all(
    payments.map((payment) => {
      const made = { invoice: invoiceOf.get(payment) ?? null, address: addressOf.get(payment) ?? null };
      return advance(engine, payment, generatedCommand(payment, made));
    }),
  );
}

const invoiceRequest = (payment: Payment): InvoiceRequest => ({
  reference: refKey(payment),
  amount_msats: payment.payable,
  description: payment.description ?? '',
  expiry_seconds: payment.expiration ?? 0,
  // Counted back from its end: that is what was promised, and no quote ends before it.
  created_at_ms: Date.parse(payment.expires_at ?? '') - (payment.expiration ?? 0) * 1000,
});

/** The node is away: the receives wait, each until its own time is up. */
async function waitForNode(engine: Engine, payments: readonly Payment[], cause: unknown): Promise<void> {
  const now_ms = engine.clock.now();
  const over = payments.filter((payment) => Date.parse(payment.expires_at ?? '') <= now_ms);
  const waiting = payments.filter((payment) => !over.includes(payment));
  engine.log.warn({ err: cause, waiting: waiting.length, failed: over.length }, 'the node made no invoices');
  await engine.jobs.putBack(waiting, PAUSE_MS.retry);
  const error = receiveFailed('upstream_failure', 'the node could not be reached in time');
  await advanceAll(engine, over, (payment) => failReceiveCommand(payment, error));
}
