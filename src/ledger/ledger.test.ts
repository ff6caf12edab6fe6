import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { newId } from '../core/ids.ts';
import {
  availableOf,
  capture,
  credit,
  deposit,
  hold,
  newPosting,
  release,
  resume,
  suspend,
  withdraw,
  type Posting,
  type WalletAccount,
} from './ledger.ts';
import { walletAccount } from '../../test/account.ts';
import { RUNS } from '../../test/runs.ts';

const MAX = 2_100_000_000_000_000_000n;
const at = '2026-01-01T00:00:00.000000Z';
const amounts = fc.oneof(
  fc.constantFrom(0n, 1n, 999n, 1000n, MAX, 2n ** 63n - 1n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: MAX }),
  fc.bigInt({ min: 0n, max: 5000n }),
);

const newWallet = (limit: bigint, currency = 'btc'): WalletAccount =>
  walletAccount({
    organization_id: newId(),
    id: newId(),
    environment_id: newId(),
    node_id: 'sandbox',
    currency,
    limit,
  });

interface TransferRow {
  currency: string;
  from_account: string;
  to_account: string;
  amount: bigint;
}

/** A wallet's balance recomputed from nothing but the transfers. */
const recomputed = (posting: Posting, wallet: WalletAccount): bigint =>
  (posting.transfers as TransferRow[]).reduce(
    (sum, { from_account, to_account, amount }) =>
      sum + (to_account === wallet.id ? amount : 0n) - (from_account === wallet.id ? amount : 0n),
    0n,
  );

/** What all accounts together gained in each currency: nothing, whatever was exchanged. */
function sums(posting: Posting): Map<string, bigint> {
  const balances = new Map<string, bigint>();
  const add = (account: string, currency: string, amount: bigint) =>
    balances.set(`${account}/${currency}`, (balances.get(`${account}/${currency}`) ?? 0n) + amount);
  for (const { from_account, to_account, currency, amount } of posting.transfers as TransferRow[]) {
    add(from_account, currency, -amount);
    add(to_account, currency, amount);
  }
  const totals = new Map<string, bigint>();
  for (const [key, amount] of balances) {
    const [account, currency] = key.split('/') as [string, string];
    totals.set(currency, (totals.get(currency) ?? 0n) + amount);
    // An account is of one currency: its id is derived from it.
    const other = currency === 'btc' ? 'usd' : 'btc';
    assert.equal(balances.has(`${account}/${other}`), false, 'an account moves its own currency only');
  }
  return totals;
}

const step = fc.record({
  kind: fc.constantFrom('credit', 'deposit', 'withdraw', 'hold', 'capture', 'release', 'suspend', 'resume'),
  amount: amounts,
  fee: amounts,
  rail: amounts,
  processing: fc.bigInt({ min: 0n, max: 1000n }),
});

const limits = fc.bigInt({ min: 0n, max: MAX });
const currencies = fc.constantFrom('btc', 'usd');

test('no sequence of movements takes a wallet below its floor or loses a unit', () => {
  fc.assert(
    fc.property(limits, currencies, fc.array(step, { maxLength: 40 }), (limit, currency, steps) => {
      const wallet = newWallet(limit, currency);
      const posting = newPosting();
      const held: { hold_id: string; held: bigint }[] = [];
      const reason = { payment_id: newId(), at };
      const to = { node_id: 'sandbox', kind: 'channels' } as const;
      let suspended = 0n;
      for (const { kind, amount, fee, processing, rail } of steps) {
        const open = held.at(-1);
        if (kind === 'credit') {
          const rail_msats = currency === 'btc' ? amount + processing : rail;
          credit(posting, wallet, { amount, processing_fee: processing, rail_msats }, to, reason);
        }
        if (kind === 'suspend' && currency === 'usd') {
          suspend(posting, wallet, rail, to, reason);
          suspended += rail;
        }
        if (kind === 'resume' && suspended > 0n) {
          resume(posting, wallet, suspended, null, reason);
          suspended = 0n;
        }
        if (kind === 'deposit') deposit(posting, wallet, amount, reason);
        if (kind === 'withdraw') withdraw(posting, wallet, amount, reason);
        if (kind === 'hold') {
          const before = availableOf(wallet);
          const hold_id = hold(posting, wallet, amount, reason);
          assert.equal(hold_id !== null, before >= amount, 'a hold is accepted exactly when it is covered');
          if (hold_id !== null) held.push({ hold_id, held: amount });
        }
        if (kind === 'release' && open) {
          held.pop();
          release(posting, wallet, open, reason);
        }
        if (kind === 'capture' && open) {
          const cost = { principal: amount, network_fee: fee, processing_fee: processing };
          const sent = { cost, rail: currency === 'btc' ? cost : { principal: rail, network_fee: fee } };
          if (amount + fee + processing > open.held) {
            assert.throws(() => capture(posting, wallet, open, sent, to, reason), /exceeds the hold/);
          } else {
            held.pop();
            capture(posting, wallet, open, sent, to, reason);
          }
        }
        assert.ok(availableOf(wallet) >= 0n, 'the floor holds');
        assert.equal(
          wallet.held,
          held.reduce((sum, one) => sum + one.held, 0n),
          'held is the sum of the open holds',
        );
        assert.equal(wallet.total, recomputed(posting, wallet), 'the balance is what the transfers say');
      }
      for (const [of, total] of sums(posting)) assert.equal(total, 0n, `nothing is made or lost in ${of}`);
    }),
    RUNS,
  );
});

test('a transfer never moves nothing, never comes back to its own account', () => {
  fc.assert(
    fc.property(amounts, amounts, (amount, fee) => {
      const wallet = newWallet(2n ** 65n);
      const posting = newPosting();
      const reason = { payment_id: null, at };
      const hold_id = hold(posting, wallet, amount + fee, reason);
      assert.ok(hold_id !== null);
      const cost = { principal: amount, network_fee: fee, processing_fee: 0n };
      const sent = { cost, rail: cost };
      capture(posting, wallet, { hold_id, held: amount + fee }, sent, { wallet }, reason);
      for (const { from_account, to_account, amount: moved } of posting.transfers as TransferRow[]) {
        assert.notEqual(from_account, to_account);
        assert.ok(moved > 0n);
      }
    }),
  );
});
