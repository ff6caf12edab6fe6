import assert from 'node:assert/strict';
import { test } from 'node:test';
import { walletAccount } from '../../test/account.ts';
import { nodeAccountId } from './accounts.ts';
import {
  capture,
  credit,
  deposit,
  hold,
  newPosting,
  release,
  resume,
  suspend,
  transfer,
  withdraw,
  type Counterpart,
  type Posting,
  type WalletAccount,
} from './ledger.ts';

// What each movement writes, row by row: the balances of nodes, fees and exchange are summed from these.

const REASON = { payment_id: 'payment', at: '2026-01-01T00:00:00.000000Z' };
const CHANNELS: Counterpart = { node_id: 'node', kind: 'channels' };

const wallet = (currency: string, fields: Partial<WalletAccount> = {}): WalletAccount =>
  walletAccount({ currency, ...fields });

const KINDS = ['channels', 'network_fees', 'processing_fees', 'capital', 'exchange', 'suspense'] as const;
const NAMES = new Map(
  KINDS.flatMap((kind) =>
    ['btc', 'usd'].map((currency) => [nodeAccountId('org', 'node', kind, currency), kind] as const),
  ),
);
const nameOf = (account: string): string => NAMES.get(account) ?? account;

interface TransferRow {
  kind: string;
  amount: bigint;
  currency: string;
  from_account: string;
  to_account: string;
}

/** Every transfer of a posting, as a line. */
const transfersOf = (posting: Posting): string[] =>
  (posting.transfers as TransferRow[]).map(
    ({ kind, amount, currency, from_account, to_account, ...rest }) => {
      assert.deepEqual(rest, { organization_id: 'org', ...REASON });
      return `${kind}: ${amount} ${currency}, ${nameOf(from_account)} -> ${nameOf(to_account)}`;
    },
  );

/** Fails unless a posting tells exactly one event of this account. */
function tellsOnly(posting: Posting, account: WalletAccount, event: Record<string, unknown>): void {
  const row = {
    organization_id: 'org',
    wallet_id: account.id,
    effective_time: REASON.at,
    payment_id: 'payment',
    currency: account.currency,
    network_fee: 0n,
    processing_fee: 0n,
  };
  assert.deepEqual(posting.events, [{ ...row, ...event }]);
  assert.deepEqual([...posting.touched], [[account, REASON.at]]);
}

test('a hold takes what is available to the last unit, limit included, and moves nothing', () => {
  const account = wallet('btc', { total: 1000n, held: 300n, limit: 50n });
  const posting = newPosting();
  assert.equal(hold(posting, account, 751n, REASON), null);
  assert.deepEqual(posting, newPosting());
  const id = hold(posting, account, 750n, REASON);
  assert.ok(id !== null);
  assert.deepEqual([account.total, account.held], [1000n, 1050n]);
  tellsOnly(posting, account, { type: 'held', event_id: id, amount: 750n });
  const { payment_id, at: effective_time } = REASON;
  assert.deepEqual(posting.holds, [
    { organization_id: 'org', wallet_id: 'wallet', id, payment_id, amount: 750n, effective_time },
  ]);
  assert.deepEqual([posting.transfers, posting.ended_holds], [[], []]);
});

test('nothing can be held, less than nothing cannot', () => {
  const account = wallet('btc');
  assert.notEqual(hold(newPosting(), account, 0n, REASON), null);
  assert.equal(hold(newPosting(), account, -1n, REASON), null);
  assert.equal(account.held, 0n);
});

const FUNDS = { hold_id: 'hold', held: 1100n };
const COST = { principal: 1000n, network_fee: 20n, processing_fee: 3n };
const ENDED = [{ organization_id: 'org', wallet_id: 'wallet', id: 'hold' }];

/** Captures `COST` from a wallet that holds exactly `FUNDS`. */
function captured(currency: string, rail: { principal: bigint; network_fee: bigint }, to: Counterpart) {
  const account = wallet(currency, { total: 2000n, held: 1100n });
  const posting = newPosting();
  capture(posting, account, FUNDS, { cost: COST, rail }, to, REASON);
  assert.deepEqual([account.total, account.held], [977n, 0n]);
  const told = { amount: 1023n, network_fee: 20n, processing_fee: 3n };
  tellsOnly(posting, account, { type: 'captured', event_id: 'hold', ...told });
  assert.deepEqual([posting.holds, posting.ended_holds], [[], ENDED]);
  return transfersOf(posting);
}

test('a capture pays the other side, the network through its fees, and the operator', () => {
  assert.deepEqual(captured('btc', COST, CHANNELS), [
    'captured: 1000 btc, wallet -> channels',
    'network_fee: 20 btc, wallet -> network_fees',
    'network_fee: 20 btc, network_fees -> channels',
    'processing_fee: 3 btc, wallet -> processing_fees',
  ]);
  const payee: Counterpart = { wallet: wallet('btc', { id: 'payee' }) };
  assert.equal(captured('btc', COST, payee)[0], 'captured: 1000 btc, wallet -> payee');
});

test('a capture of dollars goes to the exchange, which pays in bitcoin', () => {
  assert.deepEqual(captured('usd', { principal: 70_000n, network_fee: 1400n }, CHANNELS), [
    'exchanged: 1020 usd, wallet -> exchange',
    'captured: 70000 btc, exchange -> channels',
    'network_fee: 1400 btc, exchange -> network_fees',
    'network_fee: 1400 btc, network_fees -> channels',
    'processing_fee: 3 usd, wallet -> processing_fees',
  ]);
  // Paid to a wallet of dollars of the same node its bitcoin stays where it is.
  const payee = { wallet: wallet('usd', { id: 'payee' }) };
  assert.deepEqual(captured('usd', { principal: 70_000n, network_fee: 0n }, payee), [
    'exchanged: 1020 usd, wallet -> exchange',
    'processing_fee: 3 usd, wallet -> processing_fees',
  ]);
});

test('a capture takes all that was held and not one unit more; a hold that is not there ends nothing', () => {
  const account = wallet('btc', { total: 2000n, held: 1023n });
  const exact = { hold_id: 'hold', held: 1023n };
  const sent = { cost: COST, rail: COST };
  const short = { hold_id: 'hold', held: 1022n };
  assert.throws(() => capture(newPosting(), account, short, sent, CHANNELS, REASON), /1023 exceeds .* 1022/);
  assert.throws(() => release(newPosting(), account, FUNDS, REASON), /wallet holds less than hold hold/);
  assert.deepEqual([account.total, account.held], [2000n, 1023n]);
  capture(newPosting(), account, exact, sent, CHANNELS, REASON);
  assert.deepEqual([account.total, account.held], [977n, 0n]);
});

test('a release frees the hold and moves nothing', () => {
  const account = wallet('btc', { total: 2000n, held: 1100n });
  const posting = newPosting();
  release(posting, account, FUNDS, REASON);
  assert.deepEqual([account.total, account.held], [2000n, 0n]);
  tellsOnly(posting, account, { type: 'released', event_id: 'hold', amount: 1100n });
  assert.deepEqual([posting.transfers, posting.ended_holds], [[], ENDED]);
});

function credited(currency: string, from: Counterpart | null): string[] {
  const account = wallet(currency);
  const posting = newPosting();
  const income = { amount: 990n, processing_fee: 10n, rail_msats: currency === 'btc' ? 1000n : 70_000n };
  const event_id = credit(posting, account, income, from, REASON);
  assert.equal(account.total, 990n);
  tellsOnly(posting, account, { type: 'credited', event_id, amount: 990n, processing_fee: 10n });
  return transfersOf(posting);
}

test('income comes from the rail and leaves its fee with the operator', () => {
  const FEE = 'processing_fee: 10 btc, wallet -> processing_fees';
  assert.deepEqual(credited('btc', CHANNELS), ['credited: 1000 btc, channels -> wallet', FEE]);
  assert.deepEqual(credited('btc', null), [FEE]);
});

test('income of dollars comes from the exchange, which takes the bitcoin', () => {
  const DOLLARS = [
    'exchanged: 1000 usd, exchange -> wallet',
    'processing_fee: 10 usd, wallet -> processing_fees',
  ];
  assert.deepEqual(credited('usd', CHANNELS), ['credited: 70000 btc, channels -> exchange', ...DOLLARS]);
  assert.deepEqual(credited('usd', null), DOLLARS);
});

test('what cannot be exchanged yet waits in suspense, from outside or from the exchange, and goes back either way', () => {
  const account = wallet('usd');
  const posting = newPosting();
  suspend(posting, account, 5n, CHANNELS, REASON);
  suspend(posting, account, 6n, null, REASON);
  resume(posting, account, 7n, null, REASON);
  resume(posting, account, 8n, CHANNELS, REASON);
  assert.deepEqual(transfersOf(posting), [
    'suspended: 5 btc, channels -> suspense',
    'suspended: 6 btc, exchange -> suspense',
    'resumed: 7 btc, suspense -> exchange',
    'resumed: 8 btc, suspense -> channels',
  ]);
  assert.deepEqual([account.total, posting.events], [0n, []]);
});

test("a deposit is the operator's capital, and so is what is withdrawn: all that is available and no more", () => {
  const account = wallet('usd', { limit: 10n });
  const given = newPosting();
  deposit(given, account, 50n, REASON);
  assert.equal(account.total, 50n);
  const { event_id: deposit_id } = given.events[0] as { event_id: string };
  tellsOnly(given, account, { type: 'deposited', event_id: deposit_id, amount: 50n });
  assert.deepEqual(transfersOf(given), ['deposited: 50 usd, capital -> wallet']);
  const taken = newPosting();
  assert.equal(withdraw(taken, account, 61n, REASON), false);
  assert.deepEqual(taken, newPosting());
  assert.equal(withdraw(taken, account, 60n, REASON), true);
  assert.equal(account.total, -10n);
  const { event_id: withdrawal_id } = taken.events[0] as { event_id: string };
  tellsOnly(taken, account, { type: 'withdrawn', event_id: withdrawal_id, amount: 60n });
  assert.deepEqual(transfersOf(taken), ['withdrawn: 60 usd, wallet -> capital']);
});

test('a transfer of nothing, or to the account that it comes from, is not written', () => {
  const posting = newPosting();
  const move = { organization_id: 'org', from: 'a', to: 'b', currency: 'btc', kind: 'moved' };
  transfer(posting, { ...move, amount: 0n }, REASON);
  transfer(posting, { ...move, amount: 1n, to: 'a' }, REASON);
  assert.deepEqual(posting.transfers, []);
  transfer(posting, { ...move, amount: 1n }, REASON);
  assert.deepEqual(transfersOf(posting), ['moved: 1 btc, a -> b']);
});

test('a posting begins empty', () => {
  assert.deepEqual(newPosting(), {
    touched: new Map(),
    transfers: [],
    events: [],
    holds: [],
    ended_holds: [],
  });
});
