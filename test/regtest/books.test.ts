import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { moveFunds } from '../../src/admin/operator.ts';
import { auditClean, INHERITED, type TestServer } from '../fixtures.ts';
import { driftOf, realActor, startRealServer } from './fixture.ts';
import { skip } from './ground.ts';
import { startNetwork, type RegtestNetwork } from './network.ts';
import { eventually } from '../wait.ts';

// Node against ledger while channels open, drain, forward and close, by agreement or by force; the operator's commands.
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

let net: RegtestNetwork;
let server: TestServer;
let me: ReturnType<typeof realActor>;
let nodes_file: string;

/** ours and bob are both nodes of the deployment: what bob forwards between ours and carol is its own business. */
function withBob(): string {
  const [ours] = JSON.parse(readFileSync(net.nodes_file, 'utf8')) as object[];
  const { rpc_port, cert_file, macaroon_file } = net.bob;
  const bob = { ...ours, id: 'bob', socket: `127.0.0.1:${rpc_port}`, cert_file, macaroon_file };
  const path = join(net.folder, 'two.json');
  writeFileSync(path, JSON.stringify([ours, bob]));
  return path;
}

before(async () => {
  if (skip !== false) return;
  net = await startNetwork();
  nodes_file = withBob();
  server = await startRealServer(net, { COULOMB_NODES_FILE: nodes_file });
  me = realActor(server, net);
  await me.fund(1_500_000_000);
});
after(async () => {
  if (skip !== false) return;
  await server.stop();
  await net.stop();
});

const books = (name: string, work: () => Promise<void>): void => void test(name, { skip }, work);

async function atRest(wait_ms = 30_000): Promise<void> {
  for (const node of ['ours', 'bob']) {
    await eventually(
      async () => assert.equal(await driftOf(server, node), 0n, `drift of ${node}`),
      wait_ms,
      300,
    );
  }
  await auditClean(server.db);
}

const booked = async (key: string): Promise<bigint> => {
  const [row] = await server.db.query<{ sum: bigint | null }>(
    `SELECT sum(channels_msats)::bigint AS sum FROM node_bookings WHERE key LIKE $1`,
    [key],
  );
  return row?.sum ?? 0n;
};

books('what a node earns by forwarding is the operator’s, and its drift stays 0', async () => {
  await atRest();
  const before_msats = await booked('forwards:%');
  let fees = 0;
  for (const amount_msats of [1_000_000n, 2_345_678n, 10_000_001n]) {
    const { payment_request } = await net.carol.invoice({ amount_msats });
    const sent = await me.send({ payment_request });
    assert.equal(sent.status, 'completed');
    fees += sent.data.fees?.amount ?? 0;
  }
  await atRest();
  assert.equal(Number((await booked('forwards:%')) - before_msats), fees);
});

const channelsTo = async (id: string) => {
  const { channels } = await net.ours.ask<{
    channels: { remote_pubkey: string; active: boolean; channel_point: string; local_balance: string }[];
  }>('listChannels');
  return channels.filter(({ remote_pubkey }) => remote_pubkey === id);
};

async function close(channel_point: string, force: boolean): Promise<void> {
  const [txid = '', index = '0'] = channel_point.split(':');
  const stream = net.ours.client.listen<object>('default', 'closeChannel', {
    channel_point: { funding_txid_str: txid, output_index: Number(index) },
    force,
    ...(force ? {} : { sat_per_vbyte: '2' }),
  });
  await new Promise<void>((done, fail) => {
    stream.on('data', () => done());
    stream.on('error', fail);
  });
  stream.on('error', () => {});
}

books('a channel that opens, drains and closes by agreement leaves the drift at 0', async () => {
  await net.ours.connect(net.carol);
  await eventually(() => net.ours.openChannel(net.carol.id, 1_000_000, 0), 30_000, 250);
  await net.mine(6);
  await eventually(async () => assert.equal((await channelsTo(net.carol.id))[0]?.active, true), 30_000, 200);
  await atRest();
  const [opened] = await channelsTo(net.carol.id);
  // Part of the operator's capital becomes the wallet's, and goes over until no channel has more to give.
  await moveFunds(server.db, 'deposit', server.credentials.wallet_id, 30_000_000_000n);
  const pay = async (sats: bigint) =>
    me.send({ payment_request: (await net.carol.invoice({ amount_msats: sats * 1000n })).payment_request });
  let paid = 0;
  for (;;) {
    const { status, error } = await pay(1_000_000n);
    if (status === 'failed') {
      assert.equal(error?.code, 'no_route');
      break;
    }
    paid += 1;
    assert.ok(paid < 30, 'it comes to an end');
  }
  assert.ok(paid > 0);
  await atRest();
  await close(opened?.channel_point ?? '', false);
  await net.mine(6);
  await eventually(async () => assert.equal((await channelsTo(net.carol.id)).length, 0), 30_000, 200);
  await atRest();
});

const run = async (words: string[], ...more: string[]): Promise<string> => {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, ...words, ...more], {
    env: {
      ...INHERITED,
      DATABASE_URL: server.database_url,
      COULOMB_NODES_FILE: nodes_file,
      COULOMB_LOG_LEVEL: 'fatal',
    },
  });
  return stdout;
};

books(
  '`coulomb bootstrap` makes wallets on the real node, `coulomb audit --nodes` compares each node',
  async () => {
    const out = join(net.folder, 'shop.env');
    await run(
      'bootstrap --organization Shop --kind production --network testnet3 --currency btc --out'.split(' '),
      out,
    );
    assert.match(readFileSync(out, 'utf8'), /VOLTAGE_API_KEY=vltg_/);
    const [line] = await server.db.query<{ node_id: string }>(
      `SELECT l.node_id FROM lines_of_credit l JOIN organizations o ON o.id = l.organization_id WHERE o.name = 'Shop'`,
    );
    assert.ok(['ours', 'bob'].includes(line?.node_id ?? ''), line?.node_id);
    const printed = JSON.parse(await run(['audit', '--nodes', '--json'])) as unknown;
    const text = JSON.stringify(printed);
    for (const node of ['ours', 'bob']) assert.match(text, new RegExp(`"node_id":"${node}"`));
    assert.equal(text.match(/"drift_msats":/g)?.length, 2, text);
  },
);

function secret(): { preimage: Buffer; hash: Buffer } {
  const preimage = randomBytes(32);
  return { preimage, hash: createHash('sha256').update(preimage).digest() };
}

/** Blocks one at a time, with a pause in which nodes can act on them. */
async function mineSlowly(count: number): Promise<void> {
  for (let block = 0; block < count; block += 1) {
    await net.mine(1);
    await new Promise((done) => setTimeout(done, 150));
  }
}

/** A send that its payee holds, on a channel that this node then closes by force. */
async function closeUnder(amount_msats: bigint) {
  const { preimage, hash } = secret();
  const held = await net.carol.holdInvoice(preimage, hash, amount_msats);
  const id = await me.accept(me.sendBody({ payment_request: held.payment_request }));
  await eventually(async () => assert.equal(await net.carol.invoiceState(held.payment_hash), 'ACCEPTED'));
  const { channels } = await net.ours.ask<{
    channels: { channel_point: string; pending_htlcs: unknown[] }[];
  }>('listChannels');
  const carrying = channels.find(({ pending_htlcs }) => pending_htlcs.length > 0);
  await close(carrying?.channel_point ?? '', true);
  await mineSlowly(2);
  assert.equal((await me.get(id)).status, 'approved');
  return { id, held };
}

/** Until the delay of what is ours is over and it is swept: then nothing is missing. */
async function sweptAndExact(): Promise<void> {
  await eventually(
    async () => {
      await net.mine(10);
      const pending = await net.ours.ask<{ total_limbo_balance: string }>('pendingChannels');
      assert.equal(pending.total_limbo_balance, '0');
    },
    120_000,
    500,
  );
  await eventually(
    async () => {
      await net.mine(1);
      assert.equal(await driftOf(server), 0n);
    },
    60_000,
    1000,
  );
  await auditClean(server.db);
}

books('a channel closed by force with a payment in flight: it ends as the payee says, drift 0', async () => {
  // What was drained before comes back to this side.
  await me.fund(1_000_000_000);
  const { total } = await me.balance();
  const { id, held } = await closeUnder(40_000_000n);
  await held.settle();
  // bob takes the HTLC on the chain with the preimage; our node learns it from there.
  await eventually(
    async () => {
      await net.mine(1);
      assert.equal((await me.get(id)).status, 'completed');
    },
    60_000,
    1000,
  );
  const sent = await me.get(id);
  assert.equal((await me.balance()).total, total - 40_000_000 - (sent.data.fees?.amount ?? 0));
  await sweptAndExact();
});

books('a payment that times out on the chain fails, and its hold is released, drift 0', async () => {
  await me.fund(200_000_000);
  const earlier = await me.balance();
  const { id } = await closeUnder(50_000_000n);
  // Nobody claims it: past its lock time our node takes it back.
  await eventually(
    async () => {
      await mineSlowly(10);
      assert.equal((await me.get(id)).status, 'failed');
    },
    120_000,
    300,
  );
  assert.deepEqual(await me.balance(), earlier);
  await sweptAndExact();
});
