import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatRate, parseRate, withSpread } from '../src/core/rate.ts';
import { ConfigError, loadConfig } from '../src/config.ts';
import { parseSandboxRate, walkedRate } from '../src/quotes/walk.ts';
import { actor } from './actor.ts';
import { dollars } from './dollars.ts';
import { RUNS } from './runs.ts';
import { openServer } from './setup.ts';

const { server } = await openServer();
const my = dollars(server, actor(server));

const statusOf = async (amount: { currency: string; amount: number }, to: string, precision?: string) => {
  const fields = precision === undefined ? {} : { target_precision: { currency: to, precision } };
  const { answer, id } = await my.askQuote(amount, to, fields);
  if (answer.status === 202) return 202;
  const { error } = answer.body as { error: { type: string; context: { fields: string[] } } };
  assert.deepEqual([error.type, error.context.fields], ['invalid_quote_request', ['amount']]);
  const rows = await server.db.query('SELECT FROM quotes WHERE id = $1', [id]);
  assert.equal(rows.length, 0, 'a refused quote leaves no row');
  return answer.status;
};

test('an amount is quoted from exactly one unit of the other side on: a cent, a sat, a msat', async () => {
  await my.setRate('6500000e0');
  // A cent is 15,384.6 msats.
  assert.equal(await statusOf(my.btc(15_384), 'usd'), 400);
  assert.equal(await statusOf(my.btc(15_385), 'usd'), 202);
  // A sat is 100.05 cents: 100 cents are 999.5 msats.
  await my.setRate('10005000000e0');
  assert.equal(await statusOf(my.usd(100), 'btc'), 400);
  assert.equal(await statusOf(my.usd(100), 'btc', 'sats'), 400);
  assert.equal(await statusOf(my.usd(100), 'btc', 'msats'), 202);
  assert.equal(await statusOf(my.usd(101), 'btc'), 202);
  // A msat is 9,999.99 cents.
  await my.setRate('999999000000000e0');
  assert.equal(await statusOf(my.usd(9999), 'btc', 'msats'), 400);
  assert.equal(await statusOf(my.usd(10_000), 'btc', 'msats'), 202);
});

test('an amount that would be more than there can be on the other side is refused', async () => {
  await my.setRate('999999999999999e0');
  assert.equal(await statusOf({ currency: 'btc', amount: 2_100_000_000_000_000_000 }, 'usd'), 400);
  await my.setRate('1e0');
  assert.equal(await statusOf(my.usd(21_000_001), 'btc'), 400);
  assert.equal(await statusOf(my.usd(21_000_000), 'btc'), 202);
});

test('whatever rate the sandbox takes can be read again with its walk and any spread', async () => {
  const rates = fc.record(
    { coefficient: fc.bigInt({ min: 1n, max: 10n ** 15n - 1n }), scale: fc.integer({ min: 0, max: 12 }) },
    { noNullPrototype: true },
  );
  const spreads = fc.integer({ min: 0, max: 5000 });
  fc.assert(
    fc.property(rates, spreads, fc.constantFrom('up', 'down'), fc.nat(), (center, bps, way, now_s) => {
      assert.deepEqual(parseSandboxRate(formatRate(center)), center);
      for (const market of [center, walkedRate('seed', center, now_s * 1000)]) {
        const rate = withSpread(market, bps, way);
        assert.deepEqual(parseRate(formatRate(rate)), rate);
      }
    }),
    RUNS,
  );
  for (const rate of ['1e13', '1e30', '1000000000000000e0']) {
    const answer = await server.client.request('PUT', `${actor(server).base}/sandbox/rate`, {
      body: { rate },
    });
    assert.equal(answer.status, 422, rate);
  }
});

test('quotes that are asked for within one millisecond are listed in the order of arrival', async () => {
  await my.setRate('6500000e0');
  const asked = Array.from({ length: 50 }, (_none, index) => my.askQuote(my.usd(5000 + index), 'btc'));
  await Promise.all(asked);
  const path = `${actor(server).base}/quotes?limit=50`;
  const { items } = (await server.client.request('GET', path)).body as { items: { requested_at: string }[] };
  assert.equal(new Set(items.map(({ requested_at }) => requested_at)).size, 50);
});

test('sources can be switched off, and what cannot be used is named', () => {
  assert.deepEqual(loadConfig({ COULOMB_RATE_SOURCES: 'none' }).rates.sources, []);
  const faulty = { COULOMB_RATE_SOURCES: 'none,toString,coinbase=nowhere', COULOMB_SANDBOX_RATE: '1e30' };
  assert.throws(
    () => loadConfig(faulty),
    (error) =>
      error instanceof ConfigError &&
      ['no source none', 'no source toString', 'coinbase has no URL', 'COULOMB_SANDBOX_RATE'].every((word) =>
        error.message.includes(word),
      ),
  );
});
