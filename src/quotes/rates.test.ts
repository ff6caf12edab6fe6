import assert from 'node:assert/strict';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { systemClock } from '../core/clock.ts';
import { createLog } from '../core/log.ts';
import { formatRate } from '../core/rate.ts';
import { createRates } from './rates.ts';
import { askSource, SOURCES } from './sources.ts';

const BOUNDS = { timeout_ms: 2000, body_bytes: 65_536 };
const NEVER = new AbortController().signal;
const servers: Server[] = [];
after(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** A real server on this machine; answers its address. */
async function serve(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
const says = (body: string, status = 200): Promise<string> =>
  serve((_request, response) => response.writeHead(status).end(body));

// As the sources answer, shortened.
const BODIES: Record<string, (price: string) => string> = {
  kraken: (price) =>
    `{"error":[],"result":{"XXBTZUSD":{"a":["64900.1","1","1.000"],"b":["64900.0","1","1.000"],"c":["${price}","0.001"],"v":["1","2"]}}}`,
  coinbase: (price) => `{"data":{"amount":"${price}","base":"BTC","currency":"USD"}}`,
  bitstamp: (price) => `{"timestamp":"1","open":"64000","high":"66000","last":"${price}","volume":"1"}`,
  binance: (price) => `{"symbol":"BTCUSDT","price":"${price}"}`,
};

for (const [name, body] of Object.entries(BODIES)) {
  test(`${name}: the price is read from its place in the answer, exactly`, async () => {
    let asked = '';
    const base_url = await serve((request, response) => {
      asked = request.url ?? '';
      response.end(body('65000.12'));
    });
    const rate = await askSource({ name, base_url }, BOUNDS, NEVER);
    assert.equal(formatRate(rate), '6500012e0');
    assert.equal(asked, SOURCES[name]?.path);
  });
  test(`${name}: whatever else it answers is no price`, async () => {
    const broken = [
      '',
      '{',
      'null',
      '[]',
      '{}',
      '"65000"',
      body('free'),
      body('0'),
      body('-1'),
      '<html></html>',
      // What an object has from its prototype, another currency, another pair.
      '{"result":"x","data":"x","last":{},"price":[]}',
      '{"data":{"amount":"65000","base":"BTC","currency":"EUR"}}',
      '{"symbol":"ETHUSDT","price":"3000"}',
    ];
    for (const text of broken) {
      await assert.rejects(askSource({ name, base_url: await says(text) }, BOUNDS, NEVER), text);
    }
  });
}

test('an answer that is too large, too slow, moved or refused is no price', async () => {
  const good = BODIES['coinbase']?.('65000') ?? '';
  const ask = (base_url: string, bounds = BOUNDS) => askSource({ name: 'coinbase', base_url }, bounds, NEVER);
  await assert.rejects(ask(await says(good + ' '.repeat(70_000))), /65536 bytes/);
  await assert.rejects(ask(await says(good, 500)), /status 500/);
  await assert.rejects(ask(await says(good, 429)), /status 429/);
  const there = await says(good);
  await assert.rejects(
    ask(await serve((_request, response) => response.writeHead(302, { location: there }).end())),
  );
  await assert.rejects(ask(await serve(() => {}), { ...BOUNDS, timeout_ms: 100 }), /timeout|aborted/i);
  // A body that trickles in for ever ends with the time, too.
  const trickle = await serve((_request, response) => {
    const timer = setInterval(() => response.write(' '), 10);
    response.on('close', () => clearInterval(timer));
  });
  await assert.rejects(ask(trickle, { ...BOUNDS, timeout_ms: 200 }), /timeout|aborted/i);
});

test('the rate is the median of those that answer, and none below the quorum', async () => {
  const prices = { kraken: '65000', coinbase: '65010', bitstamp: '65020', binance: '99000' };
  const sources = await Promise.all(
    Object.entries(prices).map(async ([name, price]) => ({
      name,
      base_url: await says(BODIES[name]?.(price) ?? ''),
    })),
  );
  const config = {
    ...BOUNDS,
    poll_ms: 20,
    max_age_ms: 300,
    max_deviation_bps: 200,
    quorum: 2,
    sandbox_rate: { coefficient: 1n, scale: 0 },
  };
  const rates = createRates({ clock: systemClock, log: createLog('silent'), config: { ...config, sources } });
  assert.equal(rates.market(), null);
  const until = async (reached: () => boolean): Promise<void> => {
    const give_up_at = Date.now() + 10_000;
    while (!reached()) {
      assert.ok(Date.now() < give_up_at, 'it comes to that');
      await new Promise((done) => setTimeout(done, 10));
    }
  };
  rates.start();
  await until(() => rates.readings().readings.length === 4);
  const market = rates.market();
  assert.equal(market && formatRate(market.rate), '6501000e0');
  assert.deepEqual(rates.readings().result.left_out, ['binance']);
  // They fall silent one by one: what they said last ages.
  for (const server of servers.slice(-4)) {
    server.closeAllConnections();
    server.close();
  }
  await until(() => rates.market() === null);
  await rates.stop();
});
