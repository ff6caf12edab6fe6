import { readFileSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { authenticatedLndGrpc, createInvoice, payViaPaymentRequest, type AuthenticatedLnd } from 'lightning';
import { moveFunds } from '../src/admin/operator.ts';
import { startPlace } from '../test/regtest/fixture.ts';
import { startNetwork, type RegtestNetwork } from '../test/regtest/network.ts';

// npm run bench:lnd: the same work by a bare loop on the `lightning` package and through our API, on one network.
const IN_FLIGHT = [1, 8, 32, 64];
const AMOUNT_MSATS = 10_000;
const counts = (in_flight: number): number => (in_flight === 1 ? 60 : 400);

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const lndOf = (node: RegtestNetwork['ours']): AuthenticatedLnd =>
  authenticatedLndGrpc({
    cert: readFileSync(node.cert_file).toString('base64'),
    macaroon: readFileSync(node.macaroon_file).toString('hex'),
    socket: `127.0.0.1:${node.rpc_port}`,
  }).lnd;

interface Rate {
  per_second: number;
  p50_ms: number;
}

/** Runs `work` over the items, so many at a time. */
async function rate<T>(
  items: readonly T[],
  in_flight: number,
  work: (item: T) => Promise<unknown>,
): Promise<Rate> {
  const times: number[] = [];
  let next = 0;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: in_flight }, async () => {
      for (let index = next++; index < items.length; index = next++) {
        const started = performance.now();
        await work(items[index] as T);
        times.push(performance.now() - started);
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  times.sort((a, b) => a - b);
  return { per_second: items.length / seconds, p50_ms: times[Math.floor(times.length / 2)] ?? 0 };
}

const net = await startNetwork();
const place = await startPlace(net, { COULOMB_LOG_LEVEL: 'error' });
try {
  const server = await place.start();
  const { organization_id, environment_id, wallet_id, api_key } = place.credentials;
  await moveFunds(place.db, 'deposit', wallet_id, 2_000_000_000n);
  const ours = lndOf(net.ours);
  const carol = lndOf(net.carol);
  const base = `${server.base_url}/organizations/${organization_id}/environments/${environment_id}/payments`;
  const headers = { 'x-api-key': api_key, 'content-type': 'application/json' };

  interface Shown {
    status: string;
    data: { payment_request: string };
  }
  /** Posts a payment and asks until it is where it should be, as a client does. */
  async function through(body: { id: string }, reached: (shown: Shown) => boolean): Promise<Shown> {
    await (await fetch(base, { method: 'POST', headers, body: JSON.stringify(body) })).text();
    return until(body.id, reached);
  }
  async function until(id: string, reached: (shown: Shown) => boolean): Promise<Shown> {
    for (;;) {
      const shown = (await (await fetch(`${base}/${id}`, { headers })).json()) as Shown;
      if (shown.status === 'failed') throw new Error(`payment ${id} failed`);
      if (reached(shown)) return shown;
      await new Promise((done) => setTimeout(done, 4));
    }
  }
  const receive = () => ({
    id: randomUUID(),
    wallet_id,
    payment_kind: 'bolt11',
    amount: { currency: 'btc', amount: AMOUNT_MSATS },
  });
  const send = (payment_request: string) => ({
    id: randomUUID(),
    wallet_id,
    currency: 'btc',
    type: 'bolt11',
    data: { payment_request, max_fee: { currency: 'btc', amount: 10_000 } },
  });
  const times = (count: number) => Array.from({ length: count }, (_, index) => index);
  const invoices = async (count: number) => {
    const made: string[] = [];
    await rate(times(count), 32, async () => {
      made.push((await createInvoice({ lnd: carol, mtokens: String(AMOUNT_MSATS) })).request);
    });
    return made;
  };
  const payable = (shown: Shown) => shown.status === 'receiving';
  const done = (shown: Shown) => shown.status === 'completed';

  const WORK: [string, (count: number, in_flight: number) => Promise<[bare: Rate, api: Rate]>][] = [
    [
      'invoices made',
      async (count, in_flight) => [
        await rate(times(count), in_flight, () =>
          createInvoice({ lnd: ours, mtokens: String(AMOUNT_MSATS) }),
        ),
        await rate(times(count), in_flight, () => through(receive(), payable)),
      ],
    ],
    [
      'payments sent',
      async (count, in_flight) => [
        await rate(await invoices(count), in_flight, (request) =>
          payViaPaymentRequest({ lnd: ours, request, max_fee_mtokens: '10000' }),
        ),
        await rate(await invoices(count), in_flight, (request) => through(send(request), done)),
      ],
    ],
    [
      'payments received',
      async (count, in_flight) => [
        await rate(times(count), in_flight, async () => {
          const { request } = await createInvoice({ lnd: ours, mtokens: String(AMOUNT_MSATS) });
          await payViaPaymentRequest({ lnd: carol, request, max_fee_mtokens: '10000' });
        }),
        await rate(times(count), in_flight, async () => {
          const body = receive();
          const { data } = await through(body, payable);
          await payViaPaymentRequest({ lnd: carol, request: data.payment_request, max_fee_mtokens: '10000' });
          await until(body.id, done);
        }),
      ],
    ],
  ];
  // The first payments find their routes; nobody measures those.
  for (const request of await invoices(5)) await through(send(request), done);
  const rows: string[] = [];
  for (const [name, work] of WORK) {
    for (const in_flight of IN_FLIGHT) {
      const [bare, api] = await work(counts(in_flight), in_flight);
      const cells = [bare, api].map(
        ({ per_second, p50_ms }) => `${per_second.toFixed(1)} | ${p50_ms.toFixed(1)}`,
      );
      const ratio = (api.per_second / bare.per_second).toFixed(2);
      rows.push(
        `| ${name} | ${in_flight} | ${cells.join(' | ')} | ${ratio} | ${(api.p50_ms - bare.p50_ms).toFixed(1)} |`,
      );
      say(rows.at(-1) ?? '');
    }
  }
  const text = `# Benchmark on a real lnd network

${new Date().toISOString().slice(0, 10)}: three lnd nodes, btcd, the server, PostgreSQL and the client share two cores. The bare loop calls the
\`lightning\` package; the other one posts to the API and asks until the payment is payable or completed.

| work | in flight | bare: per second | p50 ms | API: per second | p50 ms | ratio | added p50 ms |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}
`;
  writeFileSync(new URL('RESULTS-lnd.md', import.meta.url), text);
} finally {
  await place.end();
  await net.stop();
}
process.exit(0);
