import { createHash, randomUUID } from 'node:crypto';
import { eventually } from '../wait.ts';
import { pause, type Dice } from './dice.ts';
import type { World } from './world.ts';

/** What one payment was meant to be; held against the truth when all is over. */
export interface Story {
  id: string;
  direction: 'send' | 'receive';
  what: string;
  /** Null: the server never said that it took it. */
  accepted: boolean | null;
  payment_hash?: string;
}

export interface Load {
  stories: Story[];
  /** Hold invoices of carol that are still to be ended. */
  held: Set<{ settle(): Promise<unknown>; cancel(): Promise<unknown> }>;
  /** Operations that could not be tried, because what they need was away. */
  given_up: number;
}

type Client = NonNullable<ReturnType<World['client']>>;
interface Operation {
  world: World;
  dice: Dice;
  load: Load;
}

const HELD_MS = 60_000;
const TRIES = 20;
const TRY_PAUSE_MS = 500;
const btc = (amount: number) => ({ currency: 'btc', amount });
const CHAIN_CAP = btc(20_000_000);

/** Creates a payment as a careful client does: the same id again until somebody answers. */
async function create({ world, dice }: Operation, story: Story, body: object): Promise<boolean> {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const answer = await world
      .client(dice.between(0, world.slots - 1))
      ?.create({ ...body, id: story.id })
      .catch(() => null);
    // That it exists already is the answer to an earlier try that was lost.
    if (answer?.status === 202 || answer?.status === 409) {
      story.accepted = true;
      return true;
    }
    if (answer && answer.status < 500) throw new Error(`${story.what}: ${answer.status} ${answer.text}`);
    await pause(TRY_PAUSE_MS);
  }
  return false;
}

function tell(
  { load }: Operation,
  direction: Story['direction'],
  what: string,
  payment_hash?: string,
): Story {
  const story: Story = {
    id: randomUUID(),
    direction,
    what,
    accepted: null,
    ...(payment_hash === undefined ? {} : { payment_hash }),
  };
  load.stories.push(story);
  return story;
}

const sendBody = (wallet_id: string, data: object, type = 'bolt11') => ({
  wallet_id,
  currency: 'btc',
  type,
  data,
});

async function send(
  operation: Operation,
  what: string,
  invoice: { payment_request: string; payment_hash: string },
) {
  const { world, dice } = operation;
  const story = tell(operation, 'send', what, invoice.payment_hash);
  const data = {
    payment_request: invoice.payment_request,
    max_fee: btc(dice.between(0, 10) === 0 ? 0 : 50_000),
  };
  await create(operation, story, sendBody(dice.pick(world.wallets), data));
}

async function sendOut(operation: Operation): Promise<void> {
  const { world, dice } = operation;
  const amount_msats = BigInt(dice.between(1000, 5_000_000));
  await send(operation, 'send', await world.net.carol.invoice({ amount_msats }));
}

/** One invoice, sent from two wallets through two servers at once. */
async function sendTwice(operation: Operation): Promise<void> {
  const { world, dice } = operation;
  const invoice = await world.net.carol.invoice({ amount_msats: BigInt(dice.between(1000, 100_000)) });
  await Promise.all([send(operation, 'send twice', invoice), send(operation, 'send twice', invoice)]);
}

/** A send that carol holds for a while and then settles or cancels. */
async function sendHeld(operation: Operation): Promise<void> {
  const { world, dice, load } = operation;
  const preimage = createHash('sha256').update(randomUUID()).digest();
  const hash = createHash('sha256').update(preimage).digest();
  const held = await world.net.carol.holdInvoice(preimage, hash, BigInt(dice.between(1000, 2_000_000)));
  load.held.add(held);
  const settles = dice.chance(60);
  await send(operation, settles ? 'send held, settled' : 'send held, cancelled', held);
  await pause(dice.between(500, 15_000));
  // A payee that is away does it when it is back, long before the HTLC would be timed out on the chain.
  await eventually(() => (settles ? held.settle() : held.cancel()), HELD_MS, TRY_PAUSE_MS);
  load.held.delete(held);
}

/** A receive as a shop makes it; `payable` once its invoice or address stands. */
async function receive(operation: Operation, what: string, fields: object = {}) {
  const { world, dice } = operation;
  const story = tell(operation, 'receive', what);
  const body = {
    wallet_id: dice.pick(world.wallets),
    payment_kind: 'bolt11',
    amount: btc(dice.between(1000, 2_000_000)),
    ...fields,
  };
  if (!(await create(operation, story, body))) throw new Error('the receive was not taken');
  for (let attempt = 0; attempt < TRIES * 4; attempt += 1) {
    const shown = await world
      .client(dice.between(0, world.slots - 1))
      ?.get(story.id)
      .catch(() => null);
    if (shown && shown.status !== 'generating') return { story, shown };
    await pause(TRY_PAUSE_MS);
  }
  throw new Error('the receive has no invoice yet');
}

async function receivePaid(operation: Operation): Promise<void> {
  const { shown } = await receive(operation, 'receive');
  await pause(operation.dice.between(0, 2000));
  await operation.world.net.carol.pay(shown.data.payment_request ?? '');
}

/** Paid around the moment at which it expires. */
async function receiveLate(operation: Operation): Promise<void> {
  const expiration = operation.dice.between(3, 8);
  const { shown } = await receive(operation, 'receive late', { expiration });
  await pause(operation.dice.between(0, expiration * 1000 + 500));
  await operation.world.net.carol.pay(shown.data.payment_request ?? '');
}

/** Paid from one of our wallets, and often by an outside payer at the same moment. */
async function internal(operation: Operation): Promise<void> {
  const { world, dice } = operation;
  const { shown } = await receive(operation, 'receive inside');
  const payment_request = shown.data.payment_request ?? '';
  const story = tell(operation, 'send', 'send inside');
  await Promise.all([
    create(operation, story, sendBody(dice.pick(world.wallets), { payment_request })),
    ...(dice.chance(40) ? [world.net.carol.pay(payment_request)] : []),
  ]);
}

async function receiveOnChain({ world, dice, load }: Operation): Promise<void> {
  const operation = { world, dice, load };
  const { shown } = await receive(operation, 'receive on-chain', {
    payment_kind: 'onchain',
    amount: btc(20_000_000),
  });
  await world.net.chain.pay({ address: shown.data.address ?? '', amount_sats: 20_000n });
}

async function sendOnChain(operation: Operation): Promise<void> {
  const { world, dice } = operation;
  const address = await world.net.carol.address();
  const story = tell(operation, 'send', 'send on-chain');
  const data = { address, amount: btc(dice.between(10_000, 30_000) * 1000), max_fee: CHAIN_CAP };
  await create(operation, story, sendBody(dice.pick(world.wallets), data, 'onchain'));
}

const OPERATIONS: readonly [weight: number, run: (operation: Operation) => Promise<void>][] = [
  [30, sendOut],
  [4, sendTwice],
  [10, sendHeld],
  [30, receivePaid],
  [6, receiveLate],
  [12, internal],
  [4, receiveOnChain],
  [4, sendOnChain],
];
const TOTAL = OPERATIONS.reduce((sum, [weight]) => sum + weight, 0);

function chosen(dice: Dice): (operation: Operation) => Promise<void> {
  let left = dice.between(1, TOTAL);
  for (const [weight, run] of OPERATIONS) {
    left -= weight;
    if (left <= 0) return run;
  }
  throw new Error('weights do not add up');
}

/** One client: one operation after the other until `over`. What it needs may be away: it goes on with the next. */
export async function work(world: World, dice: Dice, load: Load, over: () => boolean): Promise<void> {
  while (!over()) {
    try {
      await chosen(dice)({ world, dice, load });
    } catch (error) {
      if (/: 4\d\d /.test((error as Error).message)) throw error;
      load.given_up += 1;
      await pause(dice.between(100, 1000));
    }
  }
}

export type { Client };
