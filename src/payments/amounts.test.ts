import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { centsUp, formatRate, type Rate } from '../core/rate.ts';
import {
  askBitcoin,
  askDollars,
  costOf,
  feeOn,
  isTooLittle,
  principalWithin,
  shownAmount,
  totalOf,
  worthOfMore,
} from './amounts.ts';
import type { Exchange, Payment } from './types.ts';
import { RUNS } from '../../test/runs.ts';

const MAX_MSATS = 2_100_000_000_000_000_000n;
// From a cent to a billion dollars per bitcoin, with up to eight digits behind the point.
const rates = fc.record({
  coefficient: fc.bigInt({ min: 1n, max: 100_000_000_000n }),
  scale: fc.integer({ min: 0, max: 8 }),
});
const msats = fc.oneof(fc.bigInt({ min: 1n, max: 10_000_000n }), fc.bigInt({ min: 1n, max: MAX_MSATS }));
const cents = fc.oneof(fc.bigInt({ min: 1n, max: 5000n }), fc.bigInt({ min: 1n, max: 10n ** 12n }));
const bps = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 10_000 }));
const kinds = fc.constantFrom('bolt11' as const, 'onchain' as const, 'bip21' as const);

const locked = (rate: Rate) => ({
  from: 'usd',
  to: 'btc',
  rate: formatRate(rate),
  quoted_at: '',
  expires_at: null,
});

/** As much of a payment as its amounts need. */
const payment = (fields: Partial<Payment>): Payment =>
  ({
    quote: null,
    quote_id: null,
    requested: null,
    exchanges: [],
    received: 0n,
    suspended: 0n,
    gross: 0n,
    credited: 0n,
    ...fields,
  }) as Payment;

/** Books `came` as the engine does: what is below a cent waits for the next. */
function pay(receive: Payment, came: bigint): void {
  const rest = receive.suspended;
  receive.received += came;
  if (isTooLittle(receive, came + rest)) {
    receive.suspended += came;
    return;
  }
  const worth = worthOfMore(receive, came + rest);
  receive.suspended -= rest;
  receive.gross += worth;
  receive.credited = principalWithin(receive, receive.gross);
  if (receive.quote) {
    const exchange = { quote_id: 'q', btc_msats: (came + rest).toString(), usd_cents: worth.toString() };
    receive.exchanges = [...receive.exchanges, exchange as Exchange];
  }
}

const dollars = (principal: bigint, fee_bps: number, rate: Rate, precision: 'sats' | 'msats') => {
  const terms = askDollars(principal, fee_bps, rate, precision);
  return payment({ ...terms, quote: locked(rate), quote_id: 'q', requested: principal, fee_bps });
};
const bitcoin = (msats: bigint, fee_bps: number, kind: Payment['kind']) => {
  // A principal that an address may receive is whole sats: the rules refuse any other.
  const principal = kind === 'bolt11' ? msats : (msats / 1000n + 1n) * 1000n;
  return payment({ ...askBitcoin(principal, fee_bps, kind), fee_bps });
};

/** Cuts an amount into parts at the given fractions of 1000. */
function cut(amount: bigint, at: readonly number[]): bigint[] {
  const edges = [...new Set(at.map((part) => (amount * BigInt(part)) / 1000n))]
    .filter((edge) => edge > 0n && edge < amount)
    .sort((a, b) => (a < b ? -1 : 1));
  return [...edges, amount].map((edge, index) => edge - (edges[index - 1] ?? 0n));
}
const cuts = fc.array(fc.integer({ min: 1, max: 999 }), { maxLength: 6 });

test('what a send costs is rounded up once: its parts add up and never exceed what was held', () => {
  fc.assert(
    fc.property(fc.option(rates), msats, msats, msats, bps, (rate, amount, max_fee, fee, fee_bps) => {
      const network_fee = fee % (max_fee + 1n);
      const processing_fee = feeOn(amount, fee_bps);
      const send = payment({ amount, max_fee, processing_fee, quote: rate && locked(rate) });
      const sum = amount + network_fee + processing_fee;
      const cost = costOf(send, network_fee);
      assert.equal(totalOf(cost), rate ? centsUp(rate, sum) : sum);
      assert.ok(cost.principal >= 0n && cost.network_fee >= 0n && cost.processing_fee >= 0n);
      assert.ok(totalOf(cost) <= totalOf(costOf(send, max_fee)));
    }),
    RUNS,
  );
});

test('a fee is never less than its share, and less than one unit more', () => {
  fc.assert(
    fc.property(msats, bps, (principal, fee_bps) => {
      const over = feeOn(principal, fee_bps) * 10_000n - principal * BigInt(fee_bps);
      assert.ok(over >= 0n && over < 10_000n);
    }),
    RUNS,
  );
});

test('a fixed receive that is paid exactly, in whatever parts, credits what was asked and the fee that was told', () => {
  fc.assert(
    fc.property(rates, cents, msats, bps, kinds, cuts, (rate, usd, btc, fee_bps, kind, at) => {
      const precision = kind === 'bolt11' ? 'msats' : 'sats';
      for (const receive of [dollars(usd, fee_bps, rate, precision), bitcoin(btc, fee_bps, kind)]) {
        const asked = receive.requested ?? receive.amount ?? 0n;
        let last = 0n;
        for (const part of cut(receive.payable ?? 0n, at)) {
          pay(receive, part);
          assert.ok(receive.credited >= last && receive.credited <= asked, 'it grows, and not beyond');
          last = receive.credited;
        }
        assert.equal(receive.credited, asked);
        assert.equal(receive.gross - receive.credited, receive.processing_fee);
        assert.equal(receive.suspended, 0n);
      }
    }),
    RUNS,
  );
});

test('what is paid in parts is credited as what is paid at once: no sum of parts beats the whole', () => {
  fc.assert(
    fc.property(
      rates,
      cents,
      bps,
      fc.bigInt({ min: 1n, max: 3000n }),
      cuts,
      (rate, usd, fee_bps, share, at) => {
        const parts = dollars(usd, fee_bps, rate, 'sats');
        const whole = dollars(usd, fee_bps, rate, 'sats');
        const paid = ((whole.payable ?? 0n) * share) / 1000n;
        if (paid === 0n) return;
        pay(whole, paid);
        for (const part of cut(paid, at)) pay(parts, part);
        assert.ok(parts.credited <= whole.credited, 'in parts never more');
        assert.equal(parts.received, whole.received);
      },
    ),
    RUNS,
  );
});

test('threat 11: dollars turned into bitcoin and back never gain, whatever the amount and the rate', () => {
  fc.assert(
    fc.property(rates, cents, msats, bps, (rate, usd, btc, fee_bps) => {
      // Received for dollars, then spent again: costs at least what was credited.
      const receive = dollars(usd, fee_bps, rate, 'msats');
      const spent = payment({ amount: receive.payable, processing_fee: 0n, quote: locked(rate) });
      assert.ok(totalOf(costOf(spent, 0n)) >= usd);
      // Spent, then received for exactly what that cost: asks for at least as many msats.
      const sent = payment({ amount: btc, processing_fee: 0n, quote: locked(rate) });
      const back = dollars(totalOf(costOf(sent, 0n)), 0, rate, 'msats');
      assert.ok((back.payable ?? 0n) >= btc);
    }),
    RUNS,
  );
});

// A cent is 15,384.6 msats.
const RATE = { coefficient: 6_500_000n, scale: 0 };

test("a rail amount is shown in the wallet's currency, dollars rounded up", () => {
  assert.equal(shownAmount(payment({}), 15_385n), 15_385n);
  assert.equal(shownAmount(payment({ quote: locked(RATE) }), 15_384n), 1n);
  assert.equal(shownAmount(payment({ quote: locked(RATE) }), 15_385n), 2n);
});

test('a receive asks for its principal and the fee on it, in whole sats where an address may be paid', () => {
  const exact = { amount: 1000n, processing_fee: 26n, payable: 1026n };
  assert.deepEqual(askBitcoin(1000n, 256, 'bolt11'), exact);
  for (const kind of ['onchain', 'bip21'] as const) {
    assert.deepEqual(askBitcoin(1000n, 256, kind), { amount: 1000n, processing_fee: 1000n, payable: 2000n });
  }
  const dollars = { amount: 30_770n, processing_fee: 1n, payable: 46_154n };
  assert.deepEqual(askDollars(2n, 5000, RATE, 'msats'), dollars);
  assert.deepEqual(askDollars(2n, 5000, RATE, 'sats'), { ...dollars, amount: 31_000n, payable: 47_000n });
});

test('of what came, the fee is its share, never more than was told for what was asked', () => {
  const receive = payment({ amount: 1000n, processing_fee: 10n, fee_bps: 100 });
  for (const [gross, principal] of [
    [0n, 0n],
    [100n, 99n],
    [505n, 500n],
    [1009n, 999n],
    [1010n, 1000n],
    [1011n, 1000n],
    [1111n, 1100n],
  ] as const) {
    assert.equal(principalWithin(receive, gross), principal, String(gross));
  }
  // Told by a total of whole sats, the fee is more than its share: no part takes more than the principal.
  assert.equal(principalWithin({ ...receive, processing_fee: 1000n }, 1500n), 1000n);
  assert.equal(principalWithin({ ...receive, fee_bps: 0, processing_fee: 0n }, 700n), 700n);
  assert.equal(principalWithin({ ...receive, amount: null, processing_fee: 0n }, 700n), 700n);
});

/** A receive of two cents, of which so many msats were exchanged at its quote, and some at another rate. */
const twoCents = (at_quote: bigint): Payment => {
  const exchange = (quote_id: string | null, msats: bigint) =>
    ({ quote_id, btc_msats: msats.toString() }) as Exchange;
  return { ...dollars(2n, 0, RATE, 'sats'), exchanges: [exchange('q', at_quote), exchange(null, 10n ** 9n)] };
};

test('what was asked is worth what was asked; more than that is worth what the quote says', () => {
  assert.equal(twoCents(0n).payable, 31_000n);
  assert.equal(worthOfMore(twoCents(0n), 30_999n), 2n);
  assert.equal(worthOfMore(twoCents(0n), 31_000n), 2n);
  assert.equal(worthOfMore(twoCents(0n), 31_000n + 15_384n), 2n);
  assert.equal(worthOfMore(twoCents(0n), 31_000n + 15_385n), 3n);
  assert.equal(worthOfMore(twoCents(31_000n), 15_385n), 1n);
  assert.equal(worthOfMore(twoCents(15_384n), 1n), 1n);
  assert.equal(worthOfMore(payment({}), 7n), 7n);
});

test('less than a cent is too little to exchange, unless it is the last of what was asked', () => {
  const tooLittle = (at_quote: bigint, msats: bigint) => isTooLittle(twoCents(at_quote), msats);
  assert.deepEqual([tooLittle(0n, 15_384n), tooLittle(0n, 15_385n)], [true, false]);
  // All two cents are there already, and 230 msats are missing.
  assert.deepEqual([tooLittle(30_770n, 229n), tooLittle(30_770n, 230n)], [true, false]);
  assert.deepEqual([tooLittle(31_000n, 1n), tooLittle(31_000n, 15_385n)], [true, false]);
  assert.equal(isTooLittle(payment({}), 0n), false);
});
