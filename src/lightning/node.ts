import type { NETWORK } from '@scure/btc-signer';

// All that the money core knows of a node. payments/ and nodes/ call it, lnd.ts and sandbox.ts keep its promises; what
// only one of the two can do has no place here.

/** The chains that a wallet may be on, as they are stored; core/networks.ts knows how requests spell them. */
export type Network = 'mainnet' | 'testnet' | 'signet' | 'mutinynet';

/** What addresses and invoices of a chain look like. */
export interface ChainParams {
  /** Currency prefix of a BOLT11 invoice: `bc`, `tb`, `tbs`, `bcrt`. */
  invoice_prefix: string;
  addresses: typeof NETWORK;
}

/** What a receive needs of its node. */
export interface InvoiceRequest {
  /** Names the invoice to the node: asked twice with the same reference, it answers the same invoice. */
  reference: string;
  /** Null: any amount. */
  amount_msats: bigint | null;
  description: string;
  expiry_seconds: number;
  /** When the receive was made, milliseconds since the epoch: the invoice's own timestamp. */
  created_at_ms: number;
}

/** An invoice that the node has stored and will take money for. */
export interface Invoice {
  /** Lower-case hex, as the node reports it: everything is keyed on this. */
  payment_hash: string;
  payment_request: string;
}

/** `cancelled`: nobody can pay it any more. Otherwise the outside payer was first. */
export type CancelOutcome = 'cancelled' | 'accepted' | 'settled' | 'unknown';

/** A send over Lightning; amounts in msats. */
export interface PayRequest {
  payment_hash: string;
  payment_request: string;
  /** Principal to deliver: the invoice's amount, or the given one where it has none. */
  amount_msats: bigint;
  /** False for an amountless invoice. */
  amount_in_invoice: boolean;
  max_fee_msats: bigint;
}

/** The node's word on a payment. Only `settled` and `failed` end one. */
export type SendOutcome =
  | { state: 'settled'; preimage: string; fee_msats: bigint; payment_index?: bigint }
  | { state: 'failed'; code: SendFailure; detail: string; payment_index?: bigint }
  | { state: 'in_flight' }
  | { state: 'not_found' }
  /** The call never left, or was turned away unread: it may be repeated at once. */
  | { state: 'not_sent'; detail: string }
  | { state: 'unknown'; detail: string };

/** The send error codes of the contract that a node's failure maps to. */
export const SEND_FAILURES = [
  'no_route',
  'upstream_failure',
  'insufficient_funds',
  'invalid_bolt11_invoice',
  'invalid_payment_amount',
  'rejected',
  'node_permission_denied',
  'transaction_build_failed',
  'broadcast_failed',
  'broadcast_fee_above_max',
] as const;
export type SendFailure = (typeof SEND_FAILURES)[number];

/** Money that came over Lightning: the node has it, whatever is made of it here. */
export interface SettledInvoice {
  payment_hash: string;
  preimage: string;
  amount_msats: bigint;
  settle_index: bigint;
  /** When the node took it, milliseconds since the epoch. */
  settled_at_ms: number;
}

/** A send on the chain; amounts in whole sats. */
export interface BuildRequest {
  /** Labels the transaction at the node, so that it is found again. */
  reference: string;
  address: string;
  amount_sats: bigint;
  max_fee_sats: bigint;
}

/** What building brought: bytes that may be broadcast, nothing yet, or the reason why there will be none. */
export type BuiltTransaction =
  | { state: 'built'; tx_id: string; vout: number; raw: string; fee_sats: bigint }
  /** The node has the money, but not yet: its change is unconfirmed, or it is away. */
  | { state: 'later'; detail: string }
  | { state: 'failed'; code: SendFailure; detail: string; context?: Record<string, unknown> };

/** An output of a transaction; `address` is its text on this chain. */
export interface ChainOutput {
  vout: number;
  address: string;
  amount_sats: bigint;
}

/** A transaction of the node's wallet, in a block or in the mempool (`height` null). */
export interface ChainTransaction {
  tx_id: string;
  height: number | null;
  /** Unix time in seconds of the block. */
  mined_at: number | null;
  outputs: ChainOutput[];
}

/** Who answers behind a connection: compared with what was seen before, by whoever keeps the books. */
export interface NodeIdentity {
  /** Public key of the node, hex. */
  identity: string;
  /** Chain that it reports, as one of the names in address.ts. */
  chain: string;
  block_height: number;
}

/** What the node tells by itself. Each handler resolves when what it was told is committed. */
export interface NodeListener {
  /** A connection stands. It is used for sends only after this resolves; answers the last stored settle index. */
  connected(identity: NodeIdentity): Promise<{ settle_index: bigint }>;
  /** A higher payment index was seen. */
  indexSeen(payment_index: bigint): void;
  settled(invoices: SettledInvoice[]): Promise<void>;
  /** A send whose call had not brought its end has one now. */
  ended(payment_hash: string, outcome: SendOutcome): Promise<void>;
  /** A block or a transaction of ours came or went: read `transactions` again. */
  chainChanged(): Promise<void>;
}

/** What moves a node's worth beside the payments of its users; each item is told under the same key for ever. */
export interface NodeBooks {
  tip_height: number;
  /** Wallet transactions in blocks: what they changed in the chain wallet, fees included, and what they paid to it. */
  transactions: { tx_id: string; height: number; net_sats: bigint; outputs: ChainOutput[] }[];
  /** Channels, with what this node put into each when it was opened; from the funding transaction's broadcast on. */
  opened: { channel: string; worth_msats: bigint }[];
  /** Channels that are being closed. */
  closing: string[];
  /** Channels that are closed on the chain, with what this node had in each, to the whole sat. */
  closed: { channel: string; worth_msats: bigint }[];
  /** Fees earned by forwarding since `forward_index`, and where they end. */
  forwarded: { fees_msats: bigint; forward_index: number };
}

/**
 * The port to a Lightning node and its chain wallet. The sandbox and lnd stand behind it; nothing above it knows which.
 * Amounts are msats unless a name says sats; hashes, preimages and transaction ids are lower-case hex. A method that
 * answers a promise rejects when the node does not answer or refuses, and then nothing is known of what it did: only
 * outcomes (`SendOutcome`, `CancelOutcome`, `BuiltTransaction`) say so in words instead.
 */
export interface LightningNode {
  /** As the operator named it; it stands in accounts and payments for ever. */
  readonly id: string;
  readonly network: Network;
  /** As the node reported it last; before it ever did, that of its network. */
  readonly chain: ChainParams;
  /** Whether its money is play money: it never pays, nor is paid by, any other node. */
  readonly sandbox: boolean;
  /** A call to pay that was made longer ago than this can reach the node no more. */
  readonly call_window_ms: number;
  /** Whether a connection stands and was checked: sends are handed over only then. */
  reachable(): boolean;

  /** Makes and stores invoices, in the order of the requests. Rejects if one is refused; repeating it makes none twice. */
  createInvoices(requests: readonly InvoiceRequest[]): Promise<Invoice[]>;
  /** Cancels a batch; answers in its order. One that the node does not have is cancelled: nobody can pay it. */
  cancelInvoices(payment_hashes: readonly string[]): Promise<CancelOutcome[]>;
  /** One fresh address per reference; asked again, it may give others. */
  newAddresses(references: readonly string[]): Promise<string[]>;
  /** Invoices among these that were settled: the comparison of lists at boot and on a timer. */
  settledAmong(payment_hashes: readonly string[]): Promise<SettledInvoice[]>;

  /** Hands over payments; each promise settles with what that call brought, never rejects. */
  pay(requests: readonly PayRequest[]): Promise<SendOutcome>[];
  /** What the node knows of these payments now, in their order; `unknown` while it does not say, never a guess. */
  lookupPayments(payment_hashes: readonly string[]): Promise<SendOutcome[]>;
  /** The node's highest payment index: lower than one seen before means that it lost its history. */
  paymentIndex(): Promise<bigint>;

  /**
   * Builds and signs; broadcasts nothing. Asked again with the same reference, an earlier answer is void:
   * the caller asks again only while it has stored none.
   */
  buildTransaction(request: BuildRequest): Promise<BuiltTransaction>;
  /** Broadcasts signed bytes under the reference as their label; rejects with the reason. Repeating it is harmless. */
  broadcast(raw: string, reference: string): Promise<void>;
  /** Wallet transactions from `since_height` on, those in the mempool included. */
  transactions(since_height: number): Promise<{ tip_height: number; transactions: ChainTransaction[] }>;

  /** Starts connecting and telling; resolves at once where the node is away. */
  start(listener: NodeListener): Promise<void>;
  /** Ends the connection; what is under way at the node goes on there. */
  stop(): Promise<void>;
  /** Resolves when the node answers; rejects with the reason otherwise. */
  ping(): Promise<void>;
  /** What else moved this node's worth; null for a node that nobody uses beside us. */
  readonly books: ((since_height: number, forward_index: number) => Promise<NodeBooks>) | null;
  /** Worth of channels and chain funds (semantics.md section 3, "Node against ledger"). */
  worth(): Promise<{ channels_msats: bigint; chain_msats: bigint }>;
}
