import { normalRate, type Rate } from '../core/rate.ts';

// The public sources: strangers, of whom any may be slow, endless, wrong or gone. Each is bounded in time and bytes, and
// whatever is not a plain decimal text in its place is that source's fault: it is left out, and nothing is guessed.

/** A public price of bitcoin in dollars: where it is asked for, and where it stands in the answer. */
interface SourceKind {
  base_url: string;
  path: string;
  pick(body: unknown): unknown;
}

/** A member of a nested object; undefined where there is none. */
const at = (value: unknown, ...keys: (string | number)[]): unknown =>
  keys.reduce<unknown>(
    (found, key) =>
      typeof found === 'object' && found !== null && Object.hasOwn(found, key)
        ? (found as Record<string | number, unknown>)[key]
        : undefined,
    value,
  );

/** The sources that are known by name. */
export const SOURCES: Readonly<Record<string, SourceKind>> = {
  kraken: {
    base_url: 'https://api.kraken.com',
    path: '/0/public/Ticker?pair=XBTUSD',
    pick: (body) => at(body, 'result', 'XXBTZUSD', 'c', 0),
  },
  coinbase: {
    base_url: 'https://api.coinbase.com',
    path: '/v2/prices/BTC-USD/spot',
    pick: (body) => (at(body, 'data', 'currency') === 'USD' ? at(body, 'data', 'amount') : undefined),
  },
  bitstamp: {
    base_url: 'https://www.bitstamp.net',
    path: '/api/v2/ticker/btcusd/',
    pick: (body) => at(body, 'last'),
  },
  binance: {
    base_url: 'https://api.binance.com',
    path: '/api/v3/ticker/price?symbol=BTCUSDT',
    pick: (body) => (at(body, 'symbol') === 'BTCUSDT' ? at(body, 'price') : undefined),
  },
};

// Ten digits leave room for the arithmetic of median and spread within the digits of a stored rate.
const DOLLARS = /^(\d{1,10})(?:\.(\d{1,10}))?$/;

/** Reads a decimal price in dollars as cents per bitcoin, exactly; null when it is none. */
export function parseDollars(text: unknown): Rate | null {
  if (typeof text !== 'string') return null;
  const [, whole, fraction = ''] = DOLLARS.exec(text) ?? [];
  if (whole === undefined) return null;
  const coefficient = BigInt(whole + fraction) * 100n;
  return coefficient === 0n ? null : normalRate({ coefficient, scale: fraction.length });
}

export interface Source {
  name: string;
  base_url: string;
}

export interface FetchBounds {
  timeout_ms: number;
  body_bytes: number;
}

/** Counted as it comes: `content-length` is only what the source says of itself. */
async function readBounded(response: Response, most: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    const bytes = chunk as Uint8Array;
    size += bytes.length;
    if (size > most) throw new Error(`the answer has more than ${most} bytes`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Asks a source for its price. Rejects, with the reason, whatever else it answers, and when it takes too long. */
export async function askSource(
  { name, base_url }: Source,
  bounds: FetchBounds,
  stop: AbortSignal,
): Promise<Rate> {
  const kind = SOURCES[name];
  if (!kind) throw new Error(`unknown source ${name}`);
  const response = await fetch(base_url.replace(/\/$/, '') + kind.path, {
    // Asked is who was configured, nobody that it names.
    redirect: 'error',
    headers: { accept: 'application/json' },
    signal: AbortSignal.any([stop, AbortSignal.timeout(bounds.timeout_ms)]),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`status ${response.status}`);
  }
  const rate = parseDollars(kind.pick(JSON.parse(await readBounded(response, bounds.body_bytes))));
  if (!rate) throw new Error('no price in the answer');
  return rate;
}
