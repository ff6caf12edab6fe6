import { toMsats } from '../core/money.ts';
import { amountsOf, outputsOfSpender } from './block.ts';
import { failureOf, isLinkFailure, type LndClient } from './lnd-client.ts';
import {
  blockHeight,
  listChannels,
  listPending,
  LOCAL,
  ownOutputs,
  sumOf,
  walletTransactions,
  type OpenChannel,
  type PendingChannel,
} from './lnd-lists.ts';
import type { NodeBooks } from './node.ts';

// Read when a node has connected and every 10 s (nodes/books.ts), with the height and forward from which it is news.
// What is told twice is booked once, by its key; what is left out or told with another amount is a drift for ever.

interface ClosedChannel {
  channel_point: string;
  closing_tx_hash: string;
  close_height: number;
  capacity: string;
  settled_balance: string;
  open_initiator: string;
  close_type: string;
  resolutions: { resolution_type: string; outcome: string; amount_sat: string }[];
}
interface Forwarding {
  forwarding_events: { fee_msat: string }[];
  last_offset_index: number;
}

const FORWARDS_PER_PAGE = 10_000;
const ANCHOR_SATS = 330n;

/**
 * What closing transactions paid out, by their id, as the chain shows them: the wallet does not list the commitment of
 * a channel that was closed by force. Asked for once each; null where the node may not or cannot tell.
 */
export type ClosingOutputs = Map<string, bigint[] | null>;

/** Reads from the node's lists what moves its worth beside payments. Bounded by `since_height` and by pages. */
export async function lndBooks(
  client: LndClient,
  since_height: number,
  forward_index: number,
  closings: ClosingOutputs,
): Promise<NodeBooks> {
  const [tip_height, transactions, open, { channels: closed }, { opening, closing }, forwarded] =
    await Promise.all([
      blockHeight(client),
      walletTransactions(client, since_height),
      listChannels(client),
      client.ask<{ channels: ClosedChannel[] }>('default', 'closedChannels', {}),
      listPending(client),
      forwardedSince(client, forward_index),
    ]);
  for (const { tx_hash, raw_tx_hex } of transactions) {
    // One that pays the wallet is listed there: its block need not be read.
    if (closed.some(({ closing_tx_hash }) => closing_tx_hash === tx_hash)) {
      closings.set(tx_hash, amountsOf(raw_tx_hex));
    }
  }
  // A node that is met for the first time is worth what it is: how its channels ended is of no interest.
  if (since_height > 0) await readClosings(client, closed, closings);
  return {
    tip_height,
    transactions: transactions
      .filter(({ num_confirmations }) => num_confirmations > 0)
      .map((transaction) => ({
        tx_id: transaction.tx_hash,
        height: transaction.block_height,
        net_sats: BigInt(transaction.amount),
        outputs: ownOutputs(transaction),
      })),
    opened: [
      ...open.map((channel) => ({ channel: channel.channel_point, worth_msats: openedWorth(channel) })),
      ...opening.map((channel) => ({ channel: channel.channel_point, worth_msats: pendingWorth(channel) })),
    ],
    closing: closing.map(({ channel }) => channel.channel_point),
    closed: closed
      .filter(({ close_type }) => close_type !== 'FUNDING_CANCELED')
      .map((channel) => ({
        channel: channel.channel_point,
        worth_msats: closedWorth(channel, closings.get(channel.closing_tx_hash) ?? null),
      })),
    forwarded,
  };
}

/** What we put in: all but what was given to the peer, or what the peer gave. */
const openedWorth = ({ capacity, initiator, push_amount_sat }: OpenChannel): bigint =>
  toMsats(initiator ? BigInt(capacity) - BigInt(push_amount_sat) : BigInt(push_amount_sat));

const pendingWorth = ({ capacity, local_balance, remote_balance, initiator }: PendingChannel): bigint =>
  toMsats(initiator === LOCAL ? BigInt(capacity) - BigInt(remote_balance) : BigInt(local_balance));

/**
 * What we had in: our balance, HTLCs that came to us on the chain, and as the opener what the closing transaction took as
 * its fee and for anchors. The rest below a sat went to the fee as well. (What lnd calls time-locked is the same balance
 * once more.)
 */
function closedWorth(channel: ClosedChannel, outputs: bigint[] | null): bigint {
  const balance = BigInt(channel.settled_balance) + claimedOnChain(channel);
  if (channel.open_initiator !== LOCAL || !outputs) return toMsats(balance);
  const forced = channel.close_type !== 'COOPERATIVE_CLOSE';
  // In a commitment an output of 330 sats is an anchor: whoever opened paid for both, and the fee does not hold them.
  const anchors = forced ? BigInt(outputs.filter((amount) => amount === ANCHOR_SATS).length) : 0n;
  return toMsats(balance + BigInt(channel.capacity) - sumOf(outputs) + anchors * ANCHOR_SATS);
}

/**
 * HTLCs that were ours in the end: those received, and those sent that timed out. From our own commitment each comes in
 * two stages, and the first says what it was; from the peer's in one.
 */
function claimedOnChain({ resolutions }: ClosedChannel): bigint {
  const sum = (type: string, outcome: string): bigint =>
    sumOf(
      resolutions
        .filter((one) => one.resolution_type === type && one.outcome === outcome)
        .map(({ amount_sat }) => amount_sat),
    );
  const claimed = (type: string, last: string): bigint => sum(type, 'FIRST_STAGE') || sum(type, last);
  return claimed('INCOMING_HTLC', 'CLAIMED') + claimed('OUTGOING_HTLC', 'TIMEOUT');
}

/** Looks up the closings that are not known yet, of channels that this node opened, in their blocks. */
async function readClosings(
  client: LndClient,
  closed: readonly ClosedChannel[],
  closings: ClosingOutputs,
): Promise<void> {
  for (const { closing_tx_hash, close_height, channel_point, open_initiator } of closed) {
    // Only the opener pays what a closing takes; without a height it never was in the chain (a funding that was cancelled).
    if (open_initiator !== LOCAL || close_height === 0 || closings.has(closing_tx_hash)) continue;
    closings.set(closing_tx_hash, await closingInBlock(client, close_height, channel_point));
  }
}

async function closingInBlock(
  client: LndClient,
  block_height: number,
  channel_point: string,
): Promise<bigint[] | null> {
  try {
    const height = { block_height: block_height.toString() };
    const { block_hash } = await client.ask<{ block_hash: Uint8Array }>('blocks', 'getBlockHash', height);
    const { raw_block } = await client.ask<{ raw_block: Uint8Array }>('blocks', 'getBlock', { block_hash });
    return outputsOfSpender(raw_block, channel_point);
  } catch (error) {
    // A link that broke is asked again with the next look; an answer of the node's own is its last word, and so is a
    // block that cannot be read: the books go on without the fee of that closing.
    if (!(error instanceof RangeError) && isLinkFailure(failureOf(error))) throw error;
    return null;
  }
}

async function forwardedSince(client: LndClient, from: number): Promise<NodeBooks['forwarded']> {
  let fees_msats = 0n;
  let forward_index = from;
  for (;;) {
    const page = await client.ask<Forwarding>('default', 'forwardingHistory', {
      // All of time, and a day for a node whose clock is ahead of ours: the index alone says what is news.
      start_time: '1',
      end_time: Math.ceil(Date.now() / 1000 + 86_400).toString(),
      index_offset: forward_index,
      num_max_events: FORWARDS_PER_PAGE,
    });
    for (const { fee_msat } of page.forwarding_events) fees_msats += BigInt(fee_msat);
    if (page.forwarding_events.length > 0) forward_index = page.last_offset_index;
    if (page.forwarding_events.length < FORWARDS_PER_PAGE) return { fees_msats, forward_index };
  }
}
