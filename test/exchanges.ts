import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What each source answers, in the form that its documentation shows, for a price in dollars. */
const DOCUMENTED: Readonly<Record<string, { path: string; body(price: string): object }>> = {
  kraken: {
    path: '/0/public/Ticker?pair=XBTUSD',
    body: (price) => ({
      error: [],
      result: {
        XXBTZUSD: {
          a: ['65001.10000', '1', '1.000'],
          b: ['64999.90000', '2', '2.000'],
          c: [price, '0.00210000'],
          v: ['1045.13458423', '2110.27211212'],
          p: ['64890.53315', '64751.91847'],
          t: [22_149, 44_201],
          l: ['64100.00000', '63950.10000'],
          h: ['65320.00000', '65450.00000'],
          o: '64500.10000',
        },
      },
    }),
  },
  coinbase: {
    path: '/v2/prices/BTC-USD/spot',
    body: (price) => ({ data: { amount: price, base: 'BTC', currency: 'USD' } }),
  },
  bitstamp: {
    path: '/api/v2/ticker/btcusd/',
    body: (price) => ({
      timestamp: '1732540800',
      open: '64480',
      high: '65400',
      low: '63900',
      last: price,
      volume: '1523.51843205',
      vwap: '64702',
      bid: '64998',
      ask: '65001',
      side: '0',
      open_24: '64100',
      percent_change_24: '1.40',
    }),
  },
  binance: {
    path: '/api/v3/ticker/price?symbol=BTCUSDT',
    body: (price) => ({ symbol: 'BTCUSDT', price }),
  },
};

export interface Exchanges {
  url: string;
  /** The value of `COULOMB_RATE_SOURCES` that names it for all four. */
  sources: string;
  /** What was asked for, in order. */
  asked: string[];
  /** Prices by source; one without is answered with 503. */
  prices: Map<string, string>;
  /** Takes the place of every documented answer while it is set. */
  instead: RequestListener | null;
  stop(): Promise<void>;
}

/** A real HTTP server that answers as all four sources do. */
export async function startExchanges(prices: Record<string, string> = {}): Promise<Exchanges> {
  const answer = (path: string, response: ServerResponse): void => {
    const [name, source] = Object.entries(DOCUMENTED).find(([, one]) => one.path === path) ?? [];
    const price = name === undefined ? undefined : exchanges.prices.get(name);
    if (!source || price === undefined) response.writeHead(503).end();
    else response.setHeader('content-type', 'application/json').end(JSON.stringify(source.body(price)));
  };
  const server = createServer((request, response) => {
    exchanges.asked.push(request.url ?? '');
    if (exchanges.instead) exchanges.instead(request, response);
    else answer(request.url ?? '', response);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const exchanges: Exchanges = {
    url,
    sources: Object.keys(DOCUMENTED)
      .map((name) => `${name}=${url}`)
      .join(','),
    asked: [],
    prices: new Map(Object.entries(prices)),
    instead: null,
    stop: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
  return exchanges;
}
