import type { NodeAccountKind } from '../ledger/accounts.ts';
import type { NodeBooks } from '../lightning/node.ts';

/** One thing that moved a node's worth, and the operator's account that it goes against. */
export interface Booking {
  /** Names it for ever: `tx:`, `open:`, `close:`, `forwards:`. */
  key: string;
  channels_msats: bigint;
  chain_msats: bigint;
  against: NodeAccountKind;
}

export interface OwnPayments {
  /** Addresses that belong to receives of users. */
  ours: ReadonlySet<string>;
  /** Transactions that are on-chain sends of users. */
  sends: ReadonlySet<string>;
  /** Forwards up to here are booked. */
  forward_index: number;
}

const MSATS_PER_SAT = 1000n;

/** The operator's share of what a node's lists tell: all that is no payment of a user. Pure. */
export function bookingsOf(books: NodeBooks, { ours, sends, forward_index }: OwnPayments): Booking[] {
  const transactions = books.transactions.map(({ tx_id, net_sats, outputs }): Booking => {
    const to_users = outputs
      .filter(({ address }) => ours.has(address))
      .reduce((sum, { amount_sats }) => sum + amount_sats, 0n);
    const own = sends.has(tx_id) ? 0n : (net_sats - to_users) * MSATS_PER_SAT;
    return { key: `tx:${tx_id}`, channels_msats: 0n, chain_msats: own, against: 'capital' };
  });
  const channel = (key: string, channels_msats: bigint): Booking => ({
    key,
    channels_msats,
    chain_msats: 0n,
    against: 'capital',
  });
  const { fees_msats, forward_index: forwarded_to } = books.forwarded;
  return [
    ...transactions,
    ...books.opened.map(({ channel: point, worth_msats }) => channel(`open:${point}`, worth_msats)),
    ...books.closed.map(({ channel: point, worth_msats }) => channel(`close:${point}`, -worth_msats)),
    ...(fees_msats > 0n
      ? [
          {
            key: `forwards:${forward_index}-${forwarded_to}`,
            channels_msats: fees_msats,
            chain_msats: 0n,
            against: 'processing_fees' as const,
          },
        ]
      : []),
  ];
}
