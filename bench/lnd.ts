import { readFileSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { authenticatedLndGrpc, createInvoice, payViaPaymentRequest, type AuthenticatedLnd } from 'lightning';
import { Pool } from 'undici';
import { moveFunds } from '../src/admin/operator.ts';
import { ready, startPlace } from '../test/regtest/fixture.ts';
import { startNetwork, type RegtestNetwork } from '../test/regtest/network.ts';
import { readCpu, type CpuSeconds } from './cpu.ts';

// npm run bench:lnd: the same work by a bare loop on the `lightning` package and through our API, on one network,
// in turns, so that both meet the same machine and the same node.
const IN_FLIGHT = [1, 8, 32, 64];
const AMOUNT_MSATS = 10_000;
/** Bare, API, API, bare, …: what drifts with time weighs on both alike. */
const TURNS = ['bare', 'api', 'api', 'bare', 'bare', 'api', 'api', 'bare'] as const;
const perTurn = (in_flight: number): number => (in_flight === 1 ? 15 : Math.max(40, in_flight * 2));
/** One payment is asked for by its id, many by the list of what changed last: at most so often. */
const ASK_MS = 5;
const LIST_MS = 20;
/** The list may have gone past a payment between two looks: it is asked for by its id. */
const OVERLOOKED_MS = 500;

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const lndOf = (node: RegtestNetwork['ours']): AuthenticatedLnd =>
  authenticatedLndGrpc({
    cert: readFileSync(node.cert_file).toString('base64'),
    macaroon: readFileSync(node.macaroon_file).toString('hex'),
    // By name: Node warns of an address as the name of a TLS server.
    socket: `localhost:${node.rpc_port}`,
  }).lnd;

interface Shown {
  id: string;
  status: string;
  data: { payment_request: string };
}
type Reached = (shown: Shown) => boolean;

/** A client with so many payments under way: posts them, and learns by asking what became of them. */
function openClient(origin: string, path: string, api_key: string) {
  const pool = new Pool(origin, { connections: 128, pipelining: 1 });
  const headers = { 'x-api-key': api_key, 'content-type': 'application/json' };
  interface Waiting {
    reached: Reached;
    asked_at: number;
    done(shown: Shown): void;
    fail(error: Error): void;
  }
  const waiting = new Map<string, Waiting>();
  let asking = false;

  async function call(method: 'GET' | 'POST', rest: string, body?: object): Promise<string> {
    const sent = body ? { body: JSON.stringify(body) } : {};
    const response = await pool.request({ method, path: path + rest, headers, ...sent });
    const text = await response.body.text();
    if (response.statusCode > 299) throw new Error(`${method} ${rest}: ${response.statusCode} ${text}`);
    return text;
  }
  function look(shown: Shown): void {
    const found = waiting.get(shown.id);
    if (!found) return;
    if (shown.status === 'failed') found.fail(new Error(`payment ${shown.id} failed`));
    else if (found.reached(shown)) found.done(shown);
    else return;
    waiting.delete(shown.id);
  }
  const askFor = async (id: string): Promise<void> => look(JSON.parse(await call('GET', `/${id}`)) as Shown);
  async function ask(): Promise<void> {
    const [only] = waiting.keys();
    if (only !== undefined && waiting.size === 1) return askFor(only);
    const query = `?sort_key=updated_at&pagination=cursor&limit=${waiting.size * 2}`;
    const { items } = JSON.parse(await call('GET', query)) as { items: Shown[] };
    items.forEach(look);
    const now = performance.now();
    for (const [id, entry] of waiting) {
      if (now - entry.asked_at < OVERLOOKED_MS) continue;
      entry.asked_at = now;
      await askFor(id);
    }
  }
  async function watch(): Promise<void> {
    asking = true;
    while (waiting.size > 0) {
      await ask();
      await new Promise((done) => setTimeout(done, waiting.size > 1 ? LIST_MS : ASK_MS));
    }
    asking = false;
  }
  const until = (id: string, reached: Reached): Promise<Shown> =>
    new Promise((done, fail) => {
      waiting.set(id, { reached, done, fail, asked_at: performance.now() });
      if (!asking) watch().catch(fail);
    });
  return {
    until,
    async through(body: { id: string }, reached: Reached): Promise<Shown> {
      await call('POST', '', body);
      return until(body.id, reached);
    },
    close: () => pool.close(),
  };
}

/** Runs `work` over the items, so many at a time; seconds that it took, and ms of each. */
async function run<T>(items: readonly T[], in_flight: number, work: (item: T) => Promise<unknown>) {
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
  return { seconds: (performance.now() - began) / 1000, times };
}

/** What all turns of one side made of it. */
function sumOf(turns: { seconds: number; times: number[] }[]) {
  const times = turns.flatMap((turn) => turn.times).sort((a, b) => a - b);
  const seconds = turns.reduce((sum, turn) => sum + turn.seconds, 0);
  return { per_second: times.length / seconds, p50_ms: times[Math.floor(times.length / 2)] ?? 0 };
}

const net = await startNetwork();
// The server speaks to its node directly, not through the link that tests break.
const nodes_file = `${net.folder}/direct.json`;
const [entry] = JSON.parse(readFileSync(net.nodes_file, 'utf8')) as object[];
writeFileSync(nodes_file, JSON.stringify([{ ...entry, socket: `127.0.0.1:${net.ours.rpc_port}` }]));
const place = await startPlace(net, { COULOMB_LOG_LEVEL: 'error', COULOMB_NODES_FILE: nodes_file });
const server = await place.spawn();
try {
  await ready(server);
  const { organization_id, environment_id, wallet_id, api_key } = place.credentials;
  await moveFunds(place.db, 'deposit', wallet_id, 2_000_000_000n);
  const [backend] = await place.db.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const [, postmaster = ''] = /\) \S (\d+)/.exec(readFileSync(`/proc/${backend?.pid}/stat`, 'utf8')) ?? [];
  const cpu = (): CpuSeconds => readCpu(server.process.pid ?? 0, postmaster);
  const ours = lndOf(net.ours);
  const carol = lndOf(net.carol);
  const { origin, pathname } = new URL(server.base_url);
  const path = `${pathname}/organizations/${organization_id}/environments/${environment_id}/payments`;
  const client = openClient(origin, path, api_key);

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
  const mtokens = String(AMOUNT_MSATS);
  const pay = (lnd: AuthenticatedLnd, request: string) =>
    payViaPaymentRequest({ lnd, request, max_fee_mtokens: '10000', max_paths: 16 });
  const payable: Reached = ({ status }) => status === 'receiving';
  const completed: Reached = ({ status }) => status === 'completed';
  const times = (count: number) => Array.from({ length: count }, (_, index) => String(index));
  const invoices = async (count: number) => {
    const made: string[] = [];
    await run(times(count), 32, async () => {
      made.push((await createInvoice({ lnd: carol, mtokens })).request);
    });
    return made;
  };

  interface Work {
    name: string;
    items(count: number): Promise<string[]> | string[];
    bare(item: string): Promise<unknown>;
    api(item: string): Promise<unknown>;
  }
  const WORK: Work[] = [
    {
      name: 'invoices made',
      items: times,
      bare: () => createInvoice({ lnd: ours, mtokens }),
      api: () => client.through(receive(), payable),
    },
    {
      name: 'payments sent',
      items: invoices,
      bare: (request) => pay(ours, request),
      api: (request) => client.through(send(request), completed),
    },
    {
      name: 'payments received',
      items: times,
      async bare() {
        await pay(carol, (await createInvoice({ lnd: ours, mtokens })).request);
      },
      async api() {
        const body = receive();
        const { data } = await client.through(body, payable);
        await pay(carol, data.payment_request);
        await client.until(body.id, completed);
      },
    },
  ];
  // The first payments find their routes; nobody measures those.
  await run(await invoices(40), 8, (request) => client.through(send(request), completed));
  const rows: string[] = [];
  for (const { name, items, ...sides } of WORK) {
    if (process.argv[2] !== undefined && !name.includes(process.argv[2])) continue;
    for (const in_flight of IN_FLIGHT) {
      const done = {
        bare: [] as Awaited<ReturnType<typeof run>>[],
        api: [] as Awaited<ReturnType<typeof run>>[],
      };
      const spent: CpuSeconds = { server: 0, database: 0, client: 0 };
      for (const side of TURNS) {
        const todo = await items(perTurn(in_flight));
        const before = cpu();
        done[side].push(await run(todo, in_flight, sides[side]));
        const after = cpu();
        if (side === 'bare') continue;
        for (const who of ['server', 'database', 'client'] as const) spent[who] += after[who] - before[who];
      }
      const [bare, api] = [sumOf(done.bare), sumOf(done.api)];
      const each = (seconds: number): string =>
        ((seconds * 1000) / (perTurn(in_flight) * done.api.length)).toFixed(1);
      const cells = [bare, api].map(
        ({ per_second, p50_ms }) => `${per_second.toFixed(1)} | ${p50_ms.toFixed(1)}`,
      );
      const ratio = (api.per_second / bare.per_second).toFixed(2);
      const added = (api.p50_ms - bare.p50_ms).toFixed(1);
      const used = [spent.server, spent.database, spent.client].map(each).join(' | ');
      rows.push(`| ${name} | ${in_flight} | ${cells.join(' | ')} | ${ratio} | ${added} | ${used} |`);
      say(rows.at(-1) ?? '');
    }
  }
  await client.close();
  if (process.argv[2] === undefined) writeResults(rows);
} finally {
  await server.kill('SIGTERM');
  await place.end();
  await net.stop();
}
process.exit(0);

function writeResults(rows: readonly string[]): void {
  const text = `# Benchmark on a real lnd network

${new Date().toISOString().slice(0, 10)}: three lnd nodes, btcd, the server, PostgreSQL and the client share two cores, which the nodes alone
keep busy from 8 in flight on. The bare loop calls the \`lightning\` package against the server's own node; the other
one posts to the API. They take turns of a few seconds (bare, API, API, bare, …) on one network, with the same amounts,
fee limits and numbers of parts, and both wait for the end of each payment. The API's client learns it by asking: a
single payment by its id every ${ASK_MS} ms, several by the list of what changed last every ${LIST_MS} ms; that wait is in its times.
CPU is that of one operation through the API: server, PostgreSQL, client.

| work | in flight | bare: per second | p50 ms | API: per second | p50 ms | ratio | added p50 ms | server ms | database ms | client ms |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}
`;
  writeFileSync(new URL('RESULTS-lnd.md', import.meta.url), text);
}
