import { toSats, wireAmount, type WireAmount } from '../core/money.ts';
import type { Cost } from '../ledger/ledger.ts';
import { formatBip21 } from '../lightning/bip21.ts';
import { askedOf, costOf, shownAmount } from './amounts.ts';
import { STATUS } from './states.ts';
import type { Exchange, Frozen, LockedQuote, Payment, Receipt } from './types.ts';

// A payment as the contract shows it, from its row alone. GET, lists, events and webhooks all show it by this, so that one
// version of a row has one text everywhere.

/** A receipt or outflow as the contract shows it. */
function receiptView(receipt: Receipt): object {
  switch (receipt.type) {
    case 'lightning': {
      const { type, ...data } = receipt;
      return { type, data };
    }
    case 'shortcircuit':
      return {
        type: receipt.type,
        data: {
          amount_msats: BigInt(receipt.amount_msats),
          offset_payment_id: receipt.offset_payment_id,
          ledger_id: receipt.ledger_id,
        },
      };
    case 'onchain':
      return {
        type: receipt.type,
        data: {
          required_confirmations_num: receipt.required_confirmations,
          tx_id: receipt.tx_id,
          ledger_id: receipt.ledger_id,
          height_mined_at: receipt.height,
          amount_sats: BigInt(receipt.amount_sats),
          mined_at: receipt.mined_at,
          is_pending: receipt.pending,
        },
      };
  }
}

const frozenView = (frozen: Frozen): object => ({
  type: 'onchain',
  data: {
    tx_id: frozen.tx_id,
    address: frozen.address,
    amount_sats: BigInt(frozen.amount_sats),
    reason: { other: frozen.reason },
  },
});

/** The deprecated numeric twin of an amount: sats on-chain, msats elsewhere. */
function numeric(payment: Payment, name: string, msats: bigint | null): object {
  return payment.kind === 'onchain'
    ? { [`${name}_sats`]: msats === null ? null : toSats(msats) }
    : { [`${name}_msats`]: msats };
}

const quoteView = ({ from, to, rate, quoted_at, expires_at }: LockedQuote): object => ({
  from,
  to,
  rate,
  quoted_at,
  expires_at,
});

/** An exchange from the side of its quote: from what was known to what it came to. */
function exchangeView({ ledger_id, quote_id, quote, btc_msats, usd_cents }: Exchange): object {
  const amounts: Record<string, WireAmount> = {
    btc: wireAmount('btc', BigInt(btc_msats)),
    usd: wireAmount('usd', BigInt(usd_cents)),
  };
  return {
    ledger_id,
    quote_id,
    quote: { type: 'market_rate', detail: quoteView(quote) },
    from_amount: amounts[quote.from],
    to_amount: amounts[quote.to],
  };
}

const NOTE = { bolt11: 'memo', onchain: 'label', bip21: 'description' } as const;

/** What amounts are shown in: the wallet's currency, as soon as a quote says what they are worth in it. */
const shownCurrency = ({ currency, quote }: Payment): string => (quote ? currency : 'btc');

/** Where the money goes on the rail: each kind shows what it can have, even while it has none. */
const railView = ({ kind, payment_request, address }: Payment): object => ({
  ...(kind === 'onchain' ? {} : { payment_request }),
  ...(kind === 'bolt11' ? {} : { address }),
});

function sendData(payment: Payment): object {
  const currency = shownCurrency(payment);
  const amount = payment.amount ?? 0n;
  const max_fee = payment.max_fee ?? 0n;
  const done = payment.state === 'completed';
  // An on-chain fee is fixed by the signed transaction; it counts as charged once it is captured.
  const network_fee = payment.network_fee ?? 0n;
  const cost = costOf(payment, network_fee);
  return {
    ...railView(payment),
    amount: wireAmount(currency, shownAmount(payment, amount)),
    max_fee: wireAmount(currency, shownAmount(payment, max_fee)),
    fees: done ? wireAmount(currency, cost.network_fee + cost.processing_fee) : null,
    ...numeric(payment, 'amount', amount),
    ...numeric(payment, 'max_fee', max_fee),
    ...numeric(payment, 'fee', done ? network_fee + payment.processing_fee : null),
    [NOTE[payment.kind]]: payment.description,
    market_quote: payment.quote && quoteView(payment.quote),
    outflows: payment.receipts.map(receiptView),
  };
}

function receiveData(payment: Payment): object {
  const asked = askedOf(payment);
  // Any amount: 0 until money comes, then the sum of it (semantics.md section 3).
  const total = asked === null ? payment.gross : asked + payment.processing_fee;
  return {
    ...railView(payment),
    amount: wireAmount(payment.currency, total),
    ...(payment.processing_fee > 0n ? { fees: wireAmount(payment.currency, payment.processing_fee) } : {}),
    ...numeric(payment, 'amount', payment.payable ?? payment.received),
    [NOTE[payment.kind]]: payment.description,
    expiration: payment.expiration,
    market_quote: payment.quote && quoteView(payment.quote),
    receipts: payment.receipts.map(receiptView),
  };
}

/** The terms of the processing fee, and what payment and fees come to; nothing for a payment without a fee. */
function feeView(payment: Payment): object {
  const { direction, fee_bps, processing_fee, state } = payment;
  const currency = shownCurrency(payment);
  if (processing_fee === 0n) return {};
  const assessed = {
    basis_points: fee_bps,
    amount: wireAmount(direction === 'send' ? 'btc' : currency, processing_fee),
  };
  if (state === 'failed') return { processing_fee: assessed };
  const settled = breakdownOf(payment);
  return {
    processing_fee: assessed,
    payment_breakdown: {
      principal: wireAmount(currency, settled.principal),
      network_fee: wireAmount(currency, settled.network_fee),
      processing_fee: wireAmount(currency, settled.processing_fee),
    },
  };
}

/** What was settled; before anything was, what the terms say. */
function breakdownOf(payment: Payment): Cost {
  const { direction, gross, credited, processing_fee } = payment;
  if (direction === 'send') return costOf(payment, payment.network_fee ?? 0n);
  if (gross > 0n) return { principal: credited, network_fee: 0n, processing_fee: gross - credited };
  return { principal: askedOf(payment) ?? 0n, network_fee: 0n, processing_fee };
}

/** What a payer scans: `lightning:` for an invoice, `bitcoin:` for an address, both in one for bip21. */
function payableUri(payment: Payment): string | null {
  const { address, payment_request, payable, description } = payment;
  if (address === null) return payment_request === null ? null : `lightning:${payment_request}`;
  return formatBip21({
    address,
    ...(payable === null ? {} : { amount_sats: toSats(payable) }),
    ...(payment_request === null ? {} : { invoice: payment_request }),
    ...(description === null ? {} : { label: description }),
  });
}

/** A payment as the contract shows it (schema `Payment`); amounts are bigints, exact on the wire. */
export function paymentView(payment: Payment): object {
  const receives = payment.direction === 'receive';
  const uri = receives ? payableUri(payment) : null;
  return {
    direction: payment.direction,
    payment_category: payment.category,
    id: payment.id,
    wallet_id: payment.wallet_id,
    ...(payment.metadata ? { metadata: payment.metadata } : {}),
    organization_id: payment.organization_id,
    environment_id: payment.environment_id,
    created_at: payment.created_at,
    updated_at: payment.updated_at,
    currency: payment.currency,
    // Of a quoted receive: what it comes to on the rail (payments.md section 13).
    ...(receives && payment.amount !== null ? { requested_amount: wireAmount('btc', payment.amount) } : {}),
    ...(receives ? {} : { route: 'direct' }),
    type: payment.kind,
    data: receives ? receiveData(payment) : sendData(payment),
    status: STATUS[payment.state],
    error: payment.error,
    ...(receives ? { frozen: (payment.frozen ?? []).map(frozenView) } : {}),
    exchanges: payment.exchanges.map(exchangeView),
    ...feeView(payment),
    ...(uri === null ? {} : { bip21_uri: uri }),
  };
}
