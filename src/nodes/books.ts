import type { Logger } from 'pino';
import { insertRows, type Database, type Sql } from '../core/db.ts';
import { createTimestamps, type Clock } from '../core/clock.ts';
import { ensureNodeAccounts, nodeAccountId, type NodeAccountKind } from '../ledger/accounts.ts';
import { newPosting, post, transfer } from '../ledger/ledger.ts';
import { nodeBalances } from '../ledger/rollup.ts';
import type { LightningNode, NodeBooks } from '../lightning/node.ts';
import { operatorOrganization } from './operator.ts';
import { bookingsOf, type Booking } from './rules.ts';
import { addressesOfPayments, bookedKeys, chainSendIds, lockNodeState } from './store.ts';

// Node against ledger (semantics.md section 3): the operator's own organization carries the worth that a node had
// when it was registered, and whatever moved it since that was no payment of a user.

export interface NodeBooksDeps {
  db: Database;
  clock: Clock;
  log: Logger;
}

/** Re-read behind the last height: a shallow reorganization replaces those blocks. */
const OVERLAP_BLOCKS = 6;
const MSATS_PER_SAT = 1000n;

/** The books of all nodes. Every call is repeatable: an item is booked once, whoever books it. */
export function createNodeBooks({ db, clock, log }: NodeBooksDeps) {
  const time = createTimestamps(clock);

  const write = (sql: Sql, node: LightningNode, bookings: readonly Booking[]): Promise<void> =>
    writeBookings(sql, node, bookings, time);

  /** The first meeting: all that the node has is the operator's, and all that its lists hold is in it. */
  async function register(node: LightningNode, read: NonNullable<LightningNode['books']>): Promise<void> {
    const books = await read(0, 0);
    const worth = await node.worth();
    await db.transaction(async (sql) => {
      const state = await lockNodeState(sql, node.id);
      if (!state || state.books_height !== null) return;
      const known = (key: string): Booking => ({
        key,
        channels_msats: 0n,
        chain_msats: 0n,
        against: 'capital',
      });
      await write(sql, node, [
        { key: 'registered', against: 'capital', ...worth },
        ...[...books.opened.map(({ channel }) => channel), ...books.closing].map((channel) =>
          known(`open:${channel}`),
        ),
        ...books.closed.flatMap(({ channel }) => [known(`open:${channel}`), known(`close:${channel}`)]),
        ...books.transactions
          .filter(({ height }) => height >= books.tip_height - OVERLAP_BLOCKS)
          .map(({ tx_id }) => known(`tx:${tx_id}`)),
      ]);
      await sql.query('UPDATE node_state SET books_height = $2, forward_index = $3 WHERE node_id = $1', [
        node.id,
        books.tip_height,
        books.forwarded.forward_index,
      ]);
    });
    log.info({ node_id: node.id, ...worth }, 'node registered: its worth is booked as capital');
  }

  async function bookNew(node: LightningNode, books: NodeBooks): Promise<void> {
    await db.transaction(async (sql) => {
      const state = await lockNodeState(sql, node.id);
      // Another server was here with what this one read: its turn comes again.
      if (!state || state.books_height === null || state.forward_index > books.forwarded.forward_index)
        return;
      const ours = await addressesOfPayments(sql, node.id, books);
      const sends = await chainSendIds(sql, node.id, books);
      const bookings = bookingsOf(books, { ours, sends, forward_index: state.forward_index });
      const known = await bookedKeys(sql, node.id, [
        ...bookings.map(({ key }) => key),
        ...books.closed.map(({ channel }) => `open:${channel}`),
      ]);
      const fresh = bookings
        .filter(({ key }) => !known.has(key))
        // Opened and closed between two looks: its transactions tell all there is to tell.
        .map((booking) =>
          booking.key.startsWith('close:') && !known.has(booking.key.replace('close:', 'open:'))
            ? { ...booking, channels_msats: 0n }
            : booking,
        );
      const closes = fresh.filter(({ key }) => key.startsWith('close:')).length;
      const height = Math.max(state.books_height, books.tip_height);
      if (
        fresh.length === 0 &&
        height === state.books_height &&
        books.forwarded.forward_index === state.forward_index
      ) {
        return;
      }
      await write(sql, node, fresh);
      await sql.query(
        `UPDATE node_state SET books_height = $2, forward_index = $3, unrounded_closes = unrounded_closes + $4
         WHERE node_id = $1`,
        [node.id, height, books.forwarded.forward_index, closes],
      );
    });
  }

  return {
    /** Books what is new at a node; registers one that is met for the first time. Rejects when the node is away. */
    async book(node: LightningNode): Promise<void> {
      if (!node.books) return;
      const [state] = await db.query<{ books_height: number | null; forward_index: number }>(
        'SELECT books_height, forward_index FROM node_state WHERE node_id = $1',
        [node.id],
        'books state',
      );
      if (state?.books_height === undefined || state.books_height === null) return register(node, node.books);
      const since = Math.max(0, state.books_height - OVERLAP_BLOCKS);
      await bookNew(node, await node.books(since, state.forward_index));
    },

    /**
     * Worth of a node against the ledger. Closing a channel drops what is below a sat: that remainder, less than a
     * sat for each channel closed since node and ledger agreed last, is booked as a loss where nothing else moves.
     */
    async compare(node: LightningNode): Promise<Comparison> {
      const comparison = await compareNode(db, node);
      const { drift_msats } = comparison;
      const lost = drift_msats < 0n ? -drift_msats : drift_msats;
      if (lost === 0n || lost >= MSATS_PER_SAT * 100n) return comparison;
      const rounded = await db.transaction(async (sql) => {
        const state = await lockNodeState(sql, node.id);
        const moving = await sql.query(
          `SELECT 1 FROM jobs WHERE node_id = $1 AND kind NOT IN ('expire', 'exchange') LIMIT 1`,
          [node.id],
        );
        const bound = BigInt(state?.unrounded_closes ?? 0) * MSATS_PER_SAT;
        if (!state || moving.length > 0 || lost >= bound) return false;
        await write(sql, node, [
          {
            key: `rounding:${state.books_height}:${time()}`,
            against: 'loss',
            channels_msats: drift_msats,
            chain_msats: 0n,
          },
        ]);
        await sql.query('UPDATE node_state SET unrounded_closes = 0 WHERE node_id = $1', [node.id]);
        return true;
      });
      return rounded ? compareNode(db, node) : comparison;
    },
  };
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
    bookings.map(({ key, channels_msats, chain_msats }) => ({
      node_id: node.id,
      key,
      channels_msats,
      chain_msats,
    })),
  );
  if (fresh.length === 0) return;
  const organization_id = await operatorOrganization(sql);
  const { id: node_id, network } = node;
  await ensureNodeAccounts(sql, { organization_id, node_id, network, currency: 'btc' });
  const posting = newPosting();
  const account = (kind: NodeAccountKind) => nodeAccountId(organization_id, node_id, kind, 'btc');
  const move = (place: 'channels' | 'chain', other: NodeAccountKind, amount: bigint, key: string): void => {
    // A node's account is where money comes from: what it gained, it gave to the other side.
    const [from, to] = amount > 0n ? [account(place), account(other)] : [account(other), account(place)];
    const [kind = 'node'] = key.split(':');
    const row = {
      organization_id,
      from,
      to,
      currency: 'btc',
      amount: amount < 0n ? -amount : amount,
      kind,
    };
    transfer(posting, row, { payment_id: null, at: time() });
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

/** Compares without booking anything. */
async function compareNode(sql: Sql, node: Pick<LightningNode, 'id' | 'worth'>): Promise<Comparison> {
  const worth = await node.worth();
  const booked = await nodeBalances(sql, node.id);
  return {
    node_id: node.id,
    channels_msats: worth.channels_msats,
    booked_channels_msats: booked.channels_msats,
    chain_msats: worth.chain_msats,
    booked_chain_msats: booked.chain_msats,
    drift_msats: worth.channels_msats + worth.chain_msats - booked.channels_msats - booked.chain_msats,
  };
}
