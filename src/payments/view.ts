import { toSats, wireAmount } from '../core/money.ts';
import { formatBip21 } from '../lightning/bip21.ts';
import { STATUS } from './states.ts';
import { type Frozen, type Payment, type Receipt } from './types.ts';

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

function sendData(payment: Payment): object {
  const { currency } = payment;
  const amount = payment.amount ?? 0n;
  const max_fee = payment.max_fee ?? 0n;
  // An on-chain fee is fixed by the signed transaction; it counts as charged once it is captured.
  const charged = payment.state === 'completed' ? (payment.network_fee ?? 0n) + payment.processing_fee : null;
  const note = { bolt11: 'memo', onchain: 'label', bip21: 'description' }[payment.kind];
  return {
    ...(payment.kind === 'onchain' ? {} : { payment_request: payment.payment_request }),
    ...(payment.kind === 'bolt11' ? {} : { address: payment.address }),
    amount: wireAmount(currency, amount),
    max_fee: wireAmount(currency, max_fee),
    fees: charged === null ? null : wireAmount(currency, charged),
    ...numeric(payment, 'amount', amount),
    ...numeric(payment, 'max_fee', max_fee),
    ...numeric(payment, 'fee', charged),
    [note]: payment.description,
    market_quote: null,
    outflows: payment.receipts.map(receiptView),
  };
}

function receiveData(payment: Payment): object {
  // Any amount: 0 until money comes, then the sum of it (semantics.md section 3).
  const amount = payment.amount === null ? payment.credited : payment.amount + payment.processing_fee;
  const note = { bolt11: 'memo', onchain: 'label', bip21: 'description' }[payment.kind];
  return {
    ...(payment.kind === 'onchain' ? {} : { payment_request: payment.payment_request }),
    ...(payment.kind === 'bolt11' ? {} : { address: payment.address }),
    amount: wireAmount(payment.currency, amount),
    ...numeric(payment, 'amount', amount),
    [note]: payment.description,
    expiration: payment.expiration,
    market_quote: null,
    receipts: payment.receipts.map(receiptView),
  };
}

/** What a payer scans: `lightning:` for an invoice, `bitcoin:` for an address, both in one for bip21. */
function payableUri(payment: Payment): string | null {
  if (payment.kind === 'bolt11') {
    return payment.payment_request === null ? null : `lightning:${payment.payment_request}`;
  }
  if (payment.address === null) {
    return payment.payment_request === null ? null : `lightning:${payment.payment_request}`;
  }
  return formatBip21({
    address: payment.address,
    ...(payment.amount === null ? {} : { amount_sats: toSats(payment.amount + payment.processing_fee) }),
    ...(payment.payment_request === null ? {} : { invoice: payment.payment_request }),
    ...(payment.description === null ? {} : { label: payment.description }),
  });
}

/** A payment as the contract shows it (schema `Payment`); amounts are bigints, exact on the wire. */
export function paymentView(payment: Payment): object {
  const uri = payment.direction === 'receive' ? payableUri(payment) : null;
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
    ...(payment.direction === 'receive'
      ? {
          ...(payment.amount === null
            ? {}
            : { requested_amount: wireAmount(payment.currency, payment.amount) }),
          type: payment.kind,
          data: receiveData(payment),
          status: STATUS[payment.state],
          error: payment.error,
          frozen: (payment.frozen ?? []).map(frozenView),
          exchanges: [],
          ...(uri === null ? {} : { bip21_uri: uri }),
        }
      : {
          route: 'direct',
          type: payment.kind,
          data: sendData(payment),
          status: STATUS[payment.state],
          error: payment.error,
          exchanges: [],
        }),
  };
}
