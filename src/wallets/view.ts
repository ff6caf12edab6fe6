import { wireTime } from '../core/db.ts';
import { signedAmount, wireAmount } from '../core/money.ts';
import type { LedgerRow } from './ledger.ts';
import type { WalletRow } from './store.ts';

/** The contract's `Wallet`. */
export function walletView(wallet: WalletRow): object {
  const { id, network, currency } = wallet;
  return {
    id,
    active: wallet.deleted_at === null,
    created_at: wallet.created_at,
    // A movement is an event of the wallet too. Both are RFC 3339 in UTC, so text order is time order.
    updated_at: wallet.updated_at > wallet.balance_at ? wallet.updated_at : wallet.balance_at,
    deleted_at: wallet.deleted_at,
    // A deletion is done with its request, or was refused: it cannot fail later, and `error` has nothing to tell.
    deletion_failed_at: null,
    name: wallet.name,
    organization_id: wallet.organization_id,
    environment_id: wallet.environment_id,
    limit: wallet.limit,
    line_of_credit_id: wallet.line_of_credit_id,
    network,
    metadata: wallet.metadata,
    balances: [
      {
        id,
        wallet_id: id,
        effective_time: wallet.balance_at,
        available: signedAmount(currency, wallet.total - wallet.held + wallet.limit),
        total: signedAmount(currency, wallet.total),
        network,
        currency,
      },
    ],
    // Of sends in flight, and of money that the chain took back after it was credited.
    holds: (wallet.holds ?? []).map((hold) => ({
      id: hold.id,
      amount: signedAmount(currency, BigInt(hold.amount)),
      effective_time: wireTime(hold.effective_time),
    })),
    pending_settlements: [],
    error: null,
  };
}

/** The name under which each type of event shows its id. */
const EVENT_ID = {
  held: 'hold_id',
  captured: 'hold_id',
  released: 'hold_id',
  credited: 'credit_id',
  deposited: 'deposit_id',
  withdrawn: 'withdraw_id',
} as const;

/** The contract's `LedgerEvent`. */
export function ledgerEventView(event: LedgerRow): object {
  const { type, currency, payment_id, effective_time } = event;
  return {
    type,
    [EVENT_ID[type]]: event.event_id,
    ...(payment_id === null ? {} : { payment_id }),
    ...(type === 'released' ? { currency } : { amount: wireAmount(currency, event.amount) }),
    ...(type === 'captured' || type === 'credited' ? breakdown(event) : {}),
    effective_time,
  };
}

/** Principal and fees of an event that settled a payment, or a part of one. */
function breakdown(event: LedgerRow): object {
  const { type, currency, amount, network_fee, processing_fee, payment_kind, receipt_type, fee_bps } = event;
  if (payment_kind === null || receipt_type === null || fee_bps === null) return {};
  // A capture is all that was debited; a credit is what was left without the fee.
  const principal = type === 'captured' ? amount - network_fee - processing_fee : amount;
  return {
    payment_breakdown: {
      principal: wireAmount(currency, principal),
      network_fee: wireAmount(currency, network_fee),
      processing_fee: {
        amount: wireAmount(currency, processing_fee),
        basis_points: fee_bps,
        payment_classification: {
          kind: payment_kind,
          route: receipt_type === 'shortcircuit' ? 'short_circuit' : 'direct',
        },
      },
    },
  };
}
