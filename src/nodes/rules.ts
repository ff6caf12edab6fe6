import { toMsats } from '../core/money.ts';
import type { NodeAccountKind } from '../ledger/accounts.ts';
import type { NodeBooks } from '../lightning/node.ts';

// Which of the things that a node's lists tell are the operator's. Payments of users are not: payments/ has moved the same
// accounts for those already, and what is counted by both is a drift.

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

/** What moved the worth of a node's channels, or nothing but is known. */
export const inChannels = (
  key: string,
  channels_msats: bigint,
  against: NodeAccountKind = 'capital',
): Booking => ({ key, channels_msats, chain_msats: 0n, against });

/** The operator's share of what a node's lists tell: all that is no payment of a user. Pure. */
export function bookingsOf(books: NodeBooks, { ours, sends, forward_index }: OwnPayments): Booking[] {
  const transactions = books.transactions.map(({ tx_id, net_sats, outputs }): Booking => {
    const to_users = outputs
      .filter(({ address }) => ours.has(address))
      .reduce((sum, { amount_sats }) => sum + amount_sats, 0n);
    const own = sends.has(tx_id) ? 0n : toMsats(net_sats - to_users);
    return { key: `tx:${tx_id}`, channels_msats: 0n, chain_msats: own, against: 'capital' };
  });
  const { fees_msats, forward_index: forwarded_to } = books.forwarded;
  const forwards = `forwards:${forward_index}-${forwarded_to}`;
  return [
    ...transactions,
    ...books.opened.map(({ channel, worth_msats }) => inChannels(`open:${channel}`, worth_msats)),
    ...books.closed.map(({ channel, worth_msats }) => inChannels(`close:${channel}`, -worth_msats)),
    ...(fees_msats > 0n ? [inChannels(forwards, fees_msats, 'processing_fees')] : []),
  ];
}
