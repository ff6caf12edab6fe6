import type { Logger } from 'pino';
import { insertRows, type Database, type Sql } from '../core/db.ts';
import { createTimestamps, type Clock } from '../core/clock.ts';
import { toMsats } from '../core/money.ts';
import {
  ensureNodeAccounts,
  nodeAccountId,
  RAIL_CURRENCY,
  type NodeAccountKind,
} from '../ledger/accounts.ts';
import { newPosting, post, transfer } from '../ledger/ledger.ts';
import { nodeBalances } from '../ledger/rollup.ts';
import type { LightningNode, NodeBooks } from '../lightning/node.ts';
import { bookingsOf, inChannels, type Booking } from './rules.ts';
import {
  addressesOfPayments,
  bookedKeys,
  chainSendIds,
  lockNodeState,
  operatorOrganization,
} from './store.ts';

// Node against ledger (semantics.md section 3): the operator's own organization carries the worth that a node had
// when it was registered, and whatever moved it since that was no payment of a user.

interface Desk {
  db: Database;
  log: Logger;
  /** The time of a booking. */
  time: () => string;
}

/** Re-read behind the last height: a shallow reorganization replaces those blocks. */
const OVERLAP_BLOCKS = 6;
/** A look takes long beside a booking: two of them in a row are overtaken by others now and then, three hardly ever. */
const MOST_LOOKS = 3;
/** A drift beyond this is no rounding, however many channels were closed. */
const MOST_ROUNDED_MSATS = toMsats(100n);

const abs = (amount: bigint): bigint => (amount < 0n ? -amount : amount);

/** The books of all nodes. Every call is repeatable: an item is booked once, whoever books it. */
export function createNodeBooks({ db, clock, log }: { db: Database; clock: Clock; log: Logger }) {
  const desk: Desk = { db, log, time: createTimestamps(clock) };
  return {
    /** Books what is new at a node; registers one that is met for the first time. Rejects when the node is away. */
    book: (node: LightningNode): Promise<void> => bookNode(desk, node),
    /** Worth of a node against the ledger, once what closed channels lost by rounding is booked. */
    compare: (node: LightningNode): Promise<Comparison> => compareNode(desk, node),
  };
}

async function bookNode(desk: Desk, node: LightningNode): Promise<void> {
  if (!node.books) return;
  for (let look = 0; look < MOST_LOOKS; look += 1) {
    const [state] = await desk.db.query<{ books_height: number | null; forward_index: number }>(
      'SELECT books_height, forward_index FROM node_state WHERE node_id = $1',
      [node.id],
      'books state',
    );
    if (!state || state.books_height === null) return register(desk, node, await node.books(0, 0));
    const since = Math.max(0, state.books_height - OVERLAP_BLOCKS);
    const books = await node.books(since, state.forward_index);
    if (await bookNew(desk, node, books, state.forward_index)) return;
  }
  // Whoever compares right behind this would take what is not booked for drift.
  throw new Error(`other looks at the books of ${node.id} were booked in between`);
}

/** The first meeting: all that the node has is the operator's, and all that its lists hold is in it. */
async function register({ db, log, time }: Desk, node: LightningNode, books: NodeBooks): Promise<void> {
  const worth = await node.worth();
  await db.transaction(async (sql) => {
    const state = await lockNodeState(sql, node.id);
    if (!state || state.books_height !== null) return;
    const known = [
      ...books.opened.map(({ channel }) => `open:${channel}`),
      ...books.closing.map((channel) => `open:${channel}`),
      ...books.closed.flatMap(({ channel }) => [`open:${channel}`, `close:${channel}`]),
      ...books.transactions
        .filter(({ height }) => height >= books.tip_height - OVERLAP_BLOCKS)
        .map(({ tx_id }) => `tx:${tx_id}`),
    ];
    const bookings = known.map((key) => inChannels(key, 0n));
    await writeBookings(sql, node, [{ key: 'registered', against: 'capital', ...worth }, ...bookings], time);
    await sql.query('UPDATE node_state SET books_height = $2, forward_index = $3 WHERE node_id = $1', [
      node.id,
      books.tip_height,
      books.forwarded.forward_index,
    ]);
  });
  log.info({ node_id: node.id, ...worth }, 'node registered: its worth is booked as capital');
}

/** Books what is new in lists whose forwards were read from `from` on; false where they are out of date by now. */
async function bookNew(
  { db, time }: Desk,
  node: LightningNode,
  books: NodeBooks,
  from: number,
): Promise<boolean> {
  const { forward_index } = books.forwarded;
  return db.transaction(async (sql) => {
    const state = await lockNodeState(sql, node.id);
    // Another look was booked since these lists were read: some of their forwards would be earned twice.
    if (!state || state.books_height === null || state.forward_index !== from) return false;
    const fresh = await newBookings(sql, node, books, from);
    const height = Math.max(state.books_height, books.tip_height);
    const moved = height !== state.books_height || forward_index !== from;
    if (fresh.length === 0 && !moved) return true;
    await writeBookings(sql, node, fresh, time);
    const closes = fresh.filter(({ key }) => key.startsWith('close:')).length;
    await sql.query(
      `UPDATE node_state SET books_height = $2, forward_index = $3, unrounded_closes = unrounded_closes + $4
       WHERE node_id = $1`,
      [node.id, height, forward_index, closes],
    );
    return true;
  });
}

/** What is not booked of a node's books; forwards are told since `forward_index`. */
async function newBookings(
  sql: Sql,
  node: LightningNode,
  books: NodeBooks,
  forward_index: number,
): Promise<Booking[]> {
  const ours = await addressesOfPayments(sql, node.id, books);
  const sends = await chainSendIds(sql, node.id, books);
  const bookings = bookingsOf(books, { ours, sends, forward_index });
  const known = await bookedKeys(sql, node.id, [
    ...bookings.map(({ key }) => key),
    ...books.closed.map(({ channel }) => `open:${channel}`),
  ]);
  return (
    bookings
      .filter(({ key }) => !known.has(key))
      // Opened and closed between two looks: its transactions tell all there is to tell.
      .map((booking) =>
        booking.key.startsWith('close:') && !known.has(booking.key.replace('close:', 'open:'))
          ? { ...booking, channels_msats: 0n }
          : booking,
      )
  );
}

/** Remembers bookings by their keys, and moves what they say in the operator's own accounts. */
async function writeBookings(
  sql: Sql,
  node: LightningNode,
  bookings: readonly Booking[],
  time: () => string,
): Promise<void> {
  const fresh = bookings.filter(
    ({ channels_msats, chain_msats }) => channels_msats !== 0n || chain_msats !== 0n,
  );
  await insertRows(
    sql,
    'node_bookings',
    bookings.map(({ against: _against, ...row }) => ({ node_id: node.id, ...row })),
  );
  if (fresh.length === 0) return;
  const organization_id = await operatorOrganization(sql);
  const { id: node_id, network } = node;
  await ensureNodeAccounts(sql, { organization_id, node_id, network, currency: RAIL_CURRENCY });
  const posting = newPosting();
  const account = (kind: NodeAccountKind) => nodeAccountId(organization_id, node_id, kind, RAIL_CURRENCY);
  const move = (place: 'channels' | 'chain', other: NodeAccountKind, amount: bigint, key: string): void => {
    // A node's account is where money comes from: what it gained, it gave to the other side.
    const [from, to] = amount > 0n ? [account(place), account(other)] : [account(other), account(place)];
    const [kind = ''] = key.split(':');
    const moved = { organization_id, from, to, currency: RAIL_CURRENCY, amount: abs(amount), kind };
    transfer(posting, moved, { payment_id: null, at: time() });
  };
  for (const booking of fresh) {
    move('channels', booking.against, booking.channels_msats, booking.key);
    move('chain', booking.against, booking.chain_msats, booking.key);
  }
  await post(sql, posting);
}

/** Worth of a node, what the ledger says, and the difference; msats. */
export interface Comparison {
  node_id: string;
  channels_msats: bigint;
  booked_channels_msats: bigint;
  chain_msats: bigint;
  booked_chain_msats: bigint;
  drift_msats: bigint;
}

/**
 * Compares, and books what rounding took. Closing a channel drops what is below a sat: that remainder, less than a sat
 * for each channel closed since node and ledger agreed last, is a loss where nothing else moves.
 */
async function compareNode({ db, time }: Desk, node: LightningNode): Promise<Comparison> {
  const comparison = await look(db, node);
  const { drift_msats } = comparison;
  const lost = abs(drift_msats);
  if (lost === 0n || lost >= MOST_ROUNDED_MSATS) return comparison;
  // Only while no payment is on its way: what one moves shows at the node before the ledger has it, and is no loss.
  const rounded = await db.transaction(async (sql) => {
    const state = await lockNodeState(sql, node.id);
    const moving = await sql.query(
      `SELECT 1 FROM jobs WHERE node_id = $1 AND kind NOT IN ('expire', 'exchange') LIMIT 1`,
      [node.id],
    );
    if (!state || moving.length > 0 || lost >= toMsats(BigInt(state.unrounded_closes))) return false;
    const key = `rounding:${state.books_height}:${time()}`;
    await writeBookings(sql, node, [inChannels(key, drift_msats, 'loss')], time);
    await sql.query('UPDATE node_state SET unrounded_closes = 0 WHERE node_id = $1', [node.id]);
    return true;
  });
  return rounded ? look(db, node) : comparison;
}

async function look(sql: Sql, node: LightningNode): Promise<Comparison> {
  const { channels_msats, chain_msats } = await node.worth();
  const booked = await nodeBalances(sql, node.id);
  return {
    node_id: node.id,
    channels_msats,
    booked_channels_msats: booked.channels_msats,
    chain_msats,
    booked_chain_msats: booked.chain_msats,
    drift_msats: channels_msats + chain_msats - booked.channels_msats - booked.chain_msats,
  };
}
