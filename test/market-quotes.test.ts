import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, test } from 'node:test';
import { rootCertificates } from 'node:tls';
import { createLine } from '../src/credit/store.ts';
import { dollars, type Quoted } from './dollars.ts';
import { actor } from './actor.ts';
import { startExchanges } from './exchanges.ts';
import { atEnd, openServer } from './setup.ts';

// Quotes on a line of a real node, which need not answer for it, at the rate of public sources.

const PRICES = { kraken: '65000.10', coinbase: '65000.30', bitstamp: '64990', binance: '70000' };
const clock = { skew_ms: 0, now: () => Date.now() + clock.skew_ms };
const folder = mkdtempSync(join(tmpdir(), 'coulomb-market-'));

const exchanges = await startExchanges(PRICES);
atEnd(() => exchanges.stop());
atEnd(() => rmSync(folder, { recursive: true, force: true }));
writeFileSync(join(folder, 'tls.cert'), rootCertificates[0] ?? '');
writeFileSync(join(folder, 'node.macaroon'), Buffer.from([2, 0, 0, 0]));
const node = {
  id: 'away',
  network: 'testnet3',
  kind: 'lnd',
  socket: '127.0.0.1:1',
  cert_file: 'tls.cert',
  macaroon_file: 'node.macaroon',
};
writeFileSync(join(folder, 'nodes.json'), JSON.stringify([node]));
const environment = {
  COULOMB_NODES_FILE: join(folder, 'nodes.json'),
  COULOMB_RATE_SOURCES: exchanges.sources,
};
const { server } = await openServer(environment, clock);
const { organization_id, environment_id } = server.credentials;
const real_line = randomUUID();
const line = { organization_id, environment_id, id: real_line, node_id: 'away', network: 'testnet' };
await server.db.transaction((sql) => createLine(sql, { ...line, currency: 'usd', limit: 0n }));
beforeEach(() => {
  clock.skew_ms = 0;
});

async function quoteOnNode(network: string): Promise<Quoted & { network: string }> {
  const my = dollars(server, actor(server));
  const { id, answer } = await my.askQuote(my.btc(1_500_000), 'usd', {
    line_of_credit_id: real_line,
    network,
  });
  assert.equal(answer.status, 202, answer.text);
  return (await my.readQuote(id)) as Quoted & { network: string };
}
async function firstRate(): Promise<Quoted & { network: string }> {
  for (;;) {
    const quote = await quoteOnNode('testnet3');
    // The sources are asked while the server starts, and start does not wait for them.
    if (quote.quote) return quote;
    await new Promise((done) => setTimeout(done, 10));
  }
}
const metrics = async () => (await fetch(new URL('/metrics', server.base_url))).text();

test('a quote of a real node has the median of the sources that agree', async () => {
  const { quote, network, error } = await firstRate();
  assert.equal(quote?.detail.rate, '6500010e0');
  assert.deepEqual([network, error], ['testnet', null]);
  assert.equal((await quoteOnNode('testnet')).quote?.detail.rate, '6500010e0');
  const text = await metrics();
  assert.match(text, /^coulomb_rate_cents_per_btc\{source="median"\} 6500010$/m);
  assert.match(text, /^coulomb_rate_source_left_out\{source="binance"\} 1$/m);
});

test('the sandbox beside it has a market of its own', async () => {
  const me = actor(server);
  const my = dollars(server, me);
  await my.setRate('7000000e0');
  const quote = await my.readQuote(await my.quote(my.btc(1_500_000), 'usd', { network: 'mutinynet' }));
  assert.equal(quote.quote?.detail.rate, '7000000e0');
  assert.equal((await quoteOnNode('testnet')).quote?.detail.rate, '6500010e0');
});

test('without a fresh rate a quote has failed at once and says so; everything else goes on', async () => {
  await firstRate();
  exchanges.prices.clear();
  clock.skew_ms = 61_000;
  const { quote, created_at, expires_at, failed_at, error } = await quoteOnNode('testnet3');
  assert.deepEqual([quote, created_at, expires_at], [null, null, null]);
  assert.notEqual(failed_at, null);
  assert.equal(error?.type, 'price');
  assert.doesNotMatch(await metrics(), /^coulomb_rate_cents_per_btc\{source="median"/m);
  const me = actor(server);
  await me.fund(1_000_000);
  exchanges.prices = new Map(Object.entries(PRICES));
  clock.skew_ms = 0;
  assert.notEqual((await firstRate()).quote, null);
});
