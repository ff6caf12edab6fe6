import type { WalletRef } from '../ledger/ledger.ts';
import type { Direction, State } from './states.ts';

export type Kind = 'bolt11' | 'onchain' | 'bip21';

/** Names one payment: ids are unique per environment. */
export interface PaymentRef {
  organization_id: string;
  environment_id: string;
  id: string;
}

/** Settlement records as stored; amounts as text, since a JSON number would round them. */
export type Receipt =
  | { type: 'lightning'; preimage: string; payment_hash: string; ledger_id: string | null }
  | { type: 'shortcircuit'; amount_msats: string; offset_payment_id: string; ledger_id: string | null }
  | {
      type: 'onchain';
      tx_id: string;
      vout: number;
      amount_sats: string;
      required_confirmations: number;
      height: number | null;
      mined_at: number | null;
      ledger_id: string | null;
      pending: boolean;
    };

export interface Frozen {
  tx_id: string;
  address: string;
  amount_sats: string;
  reason: string;
}

/** A market quote as it was locked. */
export interface LockedQuote {
  from: string;
  to: string;
  rate: string;
  quoted_at: string;
  expires_at: string | null;
}

/** Bitcoin and dollars that changed hands in one movement of the ledger; amounts as text, like those of receipts. */
export interface Exchange {
  /** The hold or credit that it belongs to. */
  ledger_id: string;
  /** Null at the market's rate of the moment. */
  quote_id: string | null;
  quote: LockedQuote;
  btc_msats: string;
  usd_cents: string;
}

export interface PaymentError {
  type: string;
  code?: string;
  detail: string;
  context?: Record<string, unknown>;
}

/** One row of `payments`. Amounts are msats of the rail unless a line says otherwise. */
export interface Payment extends PaymentRef {
  wallet_id: string;
  line_of_credit_id: string;
  node_id: string;
  direction: Direction;
  kind: Kind;
  category: 'standard' | 'treasury';
  check_only: boolean;
  /** When a check became a payment; null for any other. */
  promoted_at: string | null;
  /** The wallet's. */
  currency: string;
  state: State;
  /** Principal; of a receive: what was asked for, null for any amount. */
  amount: bigint | null;
  max_fee: bigint | null;
  network_fee: bigint | null;
  /** On the principal as requested, in its currency: msats of a send, the wallet's currency of a receive. */
  processing_fee: bigint;
  fee_bps: number;
  quote_id: string | null;
  quote: LockedQuote | null;
  exchanges: Exchange[];
  /** Principal of a quoted receive, cents. */
  requested: bigint | null;
  /** What the payer of a fixed receive pays, fee included. */
  payable: bigint | null;
  /** What came in, and how much of it waits in suspense. */
  received: bigint;
  suspended: bigint;
  /** What came in by the wallet's currency, and the part of it that was credited; the rest is the processing fee. */
  gross: bigint;
  credited: bigint;
  hold_id: string | null;
  /** What a send holds, in the wallet's currency. */
  hold_amount: bigint | null;
  payment_hash: string | null;
  payment_request: string | null;
  address: string | null;
  description: string | null;
  expiration: number | null;
  expires_at: string | null;
  target: (PaymentRef & { node_id: string }) | null;
  receipts: Receipt[];
  frozen: Frozen[] | null;
  error: PaymentError | null;
  metadata: Record<string, string> | null;
  /** The node's payment history when the send was handed over: its highest index, and how often it was lost before. */
  node_index: bigint | null;
  node_epoch: number | null;
  /** How often it was handed to its node, by whichever server. */
  calls: number;
  last_position: number;
  created_at: string;
  updated_at: string;
}

export type JobKind = 'generate' | 'expire' | 'dispatch' | 'internal' | 'track' | 'chain' | 'exchange';

/** An output to one of our addresses as last seen; amount in msats. */
export interface SeenOutput {
  payment_id: string;
  organization_id: string;
  environment_id: string;
  node_id: string;
  tx_id: string;
  vout: number;
  amount: bigint;
  height: number | null;
  state: 'seen' | 'credited' | 'frozen' | 'final';
  first_seen_at: string;
}

/** The signed transaction of an on-chain send; fee in msats. */
export interface ChainSend extends Omit<SeenOutput, 'amount' | 'height' | 'state' | 'first_seen_at'> {
  raw: string;
  fee: bigint;
  created_at: string;
}

/** When a send was held. */
export const heldAt = (payment: Payment): string => payment.promoted_at ?? payment.created_at;

/** Whether a send goes to (or a receive waits at) an address only. */
export const isOnChain = (payment: Payment): boolean => payment.payment_hash === null;

/** A payment, and whose money it moves where that is known. */
export interface OwnedRef extends PaymentRef {
  wallet_id?: string;
}

/** The wallet whose account a command locks for this payment; true where it must be found first. */
export const ownerOf = ({ organization_id, wallet_id }: OwnedRef): true | WalletRef[] =>
  wallet_id === undefined ? true : [{ organization_id, id: wallet_id }];

export const refOf = ({ organization_id, environment_id, id }: PaymentRef): PaymentRef => ({
  organization_id,
  environment_id,
  id,
});

/** Names the last call of a send, by whichever server it was made. */
export const callKey = (payment: PaymentRef & Pick<Payment, 'calls'>): string =>
  `${refKey(payment)}/${payment.calls}`;

export const refKey = (ref: PaymentRef): string => `${ref.organization_id}/${ref.environment_id}/${ref.id}`;
