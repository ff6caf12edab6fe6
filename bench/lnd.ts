import { readFileSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { loadavg } from 'node:os';
import { authenticatedLndGrpc, createInvoice, payViaPaymentRequest, type AuthenticatedLnd } from 'lightning';
import { moveFunds } from '../src/admin/operator.ts';
import { ready, startPlace } from '../test/regtest/fixture.ts';
import { startNetwork, type RegtestNetwork } from '../test/regtest/network.ts';
import { readCpu, secondsOfChildren, setApart, type CpuSeconds } from './cpu.ts';
import { openApiClient, type ApiClient } from './lnd-client.ts';

// npm run bench:lnd [-- --work sent] [--in-flight 32,64] [--apart] [--profile FOLDER]: the same work by a bare loop on the
// `lightning` package and through our API, on one network, in turns, so that both meet the same machine and node.
const AMOUNT_MSATS = 10_000;
/** What drifts with time weighs on both alike. */
const TURNS = ['bare', 'api', 'api', 'bare'] as const;
type Side = (typeof TURNS)[number];
const WARMING = 400;
/** Seconds of work, several rounds of all that is in flight; an invoice takes a tenth of a payment. */
const perTurn = (name: string, in_flight: number): number =>
  (in_flight === 1 ? 20 : Math.max(100, in_flight * 8)) * (name === 'invoices made' ? 5 : 1);

const option = (name: string): string | undefined => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
};
const only = option('work') ?? '';
const IN_FLIGHT = (option('in-flight') ?? '1,8,32,64').split(',').map(Number);
const profile = option('profile');
/** Only with the nodes on a core of their own. */
const only_apart = process.argv.includes('--apart');

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const lndOf = (node: RegtestNetwork['ours']): AuthenticatedLnd =>
  authenticatedLndGrpc({
    cert: readFileSync(node.cert_file).toString('base64'),
    macaroon: readFileSync(node.macaroon_file).toString('hex'),
    // By name: Node warns of an address as the name of a TLS server.
    socket: `localhost:${node.rpc_port}`,
  }).lnd;

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

interface Work {
  name: string;
  items(count: number): Promise<string[]> | string[];
  bare(item: string): Promise<unknown>;
  api(item: string): Promise<unknown>;
}

/** What is measured: each the same by the package and through the API. */
function worksOf(net: RegtestNetwork, client: ApiClient, wallet_id: string): Work[] {
  const ours = lndOf(net.ours);
  const carol = lndOf(net.carol);
  const mtokens = String(AMOUNT_MSATS);
  const pay = (lnd: AuthenticatedLnd, request: string) =>
    payViaPaymentRequest({ lnd, request, max_fee_mtokens: '10000', max_paths: 16 });
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
  const times = (count: number) => Array.from({ length: count }, (_, index) => String(index));
  return [
    {
      name: 'invoices made',
      items: times,
      bare: () => createInvoice({ lnd: ours, mtokens }),
      api: () => client.through(receive(), 'receive.generated'),
    },
    {
      name: 'payments sent',
      async items(count) {
        const made: string[] = [];
        await run(times(count), 32, async () => {
          made.push((await createInvoice({ lnd: carol, mtokens })).request);
        });
        return made;
      },
      bare: (request) => pay(ours, request),
      api: (request) => client.through(send(request), 'send.succeeded'),
    },
    {
      name: 'payments received',
      items: times,
      async bare() {
        await pay(carol, (await createInvoice({ lnd: ours, mtokens })).request);
      },
      async api() {
        const body = receive();
        const { data } = await client.through(body, 'receive.generated');
        const completed = client.heard(body.id, 'receive.completed');
        await pay(carol, data.payment_request);
        await completed;
      },
    },
  ];
}

/** CPU seconds of everybody who shares the cores. */
type Spent = CpuSeconds & { nodes: number };

/** One line of the table: a work, so many in flight, by both sides in turns. */
async function compare({ name, items, ...sides }: Work, in_flight: number, cpu: () => Spent) {
  const count = perTurn(name, in_flight);
  const done: Record<Side, Awaited<ReturnType<typeof run>>[]> = { bare: [], api: [] };
  const none = (): Spent => ({ server: 0, database: 0, client: 0, nodes: 0 });
  const spent: Record<Side, Spent> = { bare: none(), api: none() };
  for (const side of TURNS) {
    const todo = await items(count);
    const before = cpu();
    done[side].push(await run(todo, in_flight, sides[side]));
    const after = cpu();
    for (const who of Object.keys(before) as (keyof Spent)[]) spent[side][who] += after[who] - before[who];
  }
  const [bare, api] = [sumOf(done.bare), sumOf(done.api)];
  const each = (seconds: number): string => ((seconds * 1000) / (count * 2)).toFixed(1);
  const cells = [
    ...[bare, api].flatMap(({ per_second, p50_ms }) => [per_second.toFixed(1), p50_ms.toFixed(1)]),
    (api.per_second / bare.per_second).toFixed(2),
    (api.p50_ms - bare.p50_ms).toFixed(1),
    `${each(spent.bare.nodes)} + ${each(spent.bare.client)}`,
    each(spent.api.nodes),
    ...(['server', 'database', 'client'] as const).map((who) => each(spent.api[who])),
  ];
  return `| ${name} | ${in_flight} | ${cells.join(' | ')} |`;
}

const busy = loadavg()[0]?.toFixed(1);
const net = await startNetwork();
// The server speaks to its node directly, not through the link that tests break.
const nodes_file = `${net.folder}/direct.json`;
const [entry] = JSON.parse(readFileSync(net.nodes_file, 'utf8')) as object[];
writeFileSync(nodes_file, JSON.stringify([{ ...entry, socket: `127.0.0.1:${net.ours.rpc_port}` }]));
const place = await startPlace(net, {
  COULOMB_LOG_LEVEL: 'error',
  COULOMB_NODES_FILE: nodes_file,
  ...(profile === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profile}` }),
});
const server = await place.spawn();
try {
  await ready(server);
  const { organization_id, environment_id, wallet_id, api_key } = place.credentials;
  await moveFunds(place.db, 'deposit', wallet_id, 2_000_000_000n);
  const [backend] = await place.db.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const [, postmaster = ''] = /\) \S (\d+)/.exec(readFileSync(`/proc/${backend?.pid}/stat`, 'utf8')) ?? [];
  const server_pid = server.process.pid ?? 0;
  const cpu = (): Spent => ({
    ...readCpu(server_pid, postmaster),
    nodes: secondsOfChildren([String(server_pid), postmaster]),
  });
  const { origin, pathname } = new URL(server.base_url);
  const environment = `${pathname}/organizations/${organization_id}/environments/${environment_id}`;
  const client = await openApiClient({ origin, environment, api_key });
  const works = worksOf(net, client, wallet_id);
  // The first payments find their routes, the first thousand compile the code of both sides; nobody measures those.
  for (const { items, ...sides } of works.filter(({ name }) => name.includes(only)))
    for (const side of TURNS) await run(await items(WARMING), 64, sides[side]);
  const measured = async (): Promise<string[]> => {
    const rows: string[] = [];
    for (const work of works.filter(({ name }) => name.includes(only))) {
      for (const in_flight of IN_FLIGHT) {
        rows.push(await compare(work, in_flight, cpu));
        say(rows.at(-1) ?? '');
      }
    }
    return rows;
  };
  const together = only_apart ? [] : await measured();
  say('with the nodes on a core of their own');
  setApart([String(server_pid), postmaster]);
  const apart = await measured();
  await client.close();
  if (process.argv[2] === undefined) writeResults(together, apart);
} finally {
  await server.kill('SIGTERM');
  await place.end();
  await net.stop();
}
process.exit(0);

function writeResults(together: readonly string[], apart: readonly string[]): void {
  const head = `| work | in flight | bare: per second | p50 ms | API: per second | p50 ms | ratio | added p50 ms | bare: nodes + loop | API: nodes | server | database | client |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |`;
  const text = `# Benchmark on a real lnd network

${new Date().toISOString().slice(0, 10)}. Three lnd nodes and btcd, the server, PostgreSQL and the client. The bare loop calls the \`lightning\` package
against the server's own node; the other one posts to the API. They take turns of a few seconds (bare, API, API, bare)
on one network, with the same amounts, fee limits and numbers of parts, and both wait for the end of each payment. The
API's client hears it on one event stream, as it hears of the invoice that was made. CPU is that of one operation, in
ms: of all nodes and of the loop for the bare side; of all nodes, server, PostgreSQL and client through the API. Load
average when it began: ${busy}.

## The nodes on a core of their own

As on a machine of their own: nodes and btcd on one core; the server, PostgreSQL and the client, or the bare loop, on
the other.

${head}
${apart.join('\n')}

## Everything on the same two cores

From 32 in flight on the nodes need most of them: what the server, the database and the client take, the nodes lack.

${head}
${together.join('\n')}
`;
  writeFileSync(new URL('RESULTS-lnd.md', import.meta.url), text);
}
