import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildTools, type Tools } from './build.ts';
import { startChain, type Chain } from './chain.ts';
import { startLnd, type Lnd } from './lnd.ts';
import { keepPort } from './ports.ts';
import { eventually } from '../wait.ts';
import { startProxy, type Proxy } from './proxy.ts';

/**
 * ours ══ bob ── carol: ours is the node behind the server, with two channels to bob, so that one large payment
 * needs both; carol is a plain lnd that is not ours.
 */
export interface RegtestNetwork {
  chain: Chain;
  ours: Lnd;
  bob: Lnd;
  carol: Lnd;
  /** Between our server and its node. */
  link: Proxy;
  /** For COULOMB_NODES_FILE. */
  nodes_file: string;
  folder: string;
  /** Waits until every node has seen the last block. */
  synced(): Promise<void>;
  mine(count?: number): Promise<void>;
  stop(): Promise<void>;
}

export const CHANNEL_SATS = 5_000_000;
const WIDE_CHANNEL_SATS = 16_000_000;
const FUNDS_SATS = 100_000_000n;

/** The tools, or why this machine has none; decided once per process. */
export const tools = buildTools();

async function fundAll(chain: Chain, nodes: readonly Lnd[]): Promise<void> {
  const addresses = await Promise.all(nodes.flatMap((node) => [node.address(), node.address()]));
  await chain.pay(...addresses.map((address) => ({ address, amount_sats: FUNDS_SATS })));
  await chain.mine(1);
  await Promise.all(
    nodes.map((node) =>
      eventually(async () => {
        const { confirmed_balance } = await node.ask<{ confirmed_balance: string }>('walletBalance');
        if (confirmed_balance === '0') throw new Error('not funded yet');
      }),
    ),
  );
}

type Nodes = Record<'ours' | 'bob' | 'carol', Lnd>;

async function openChannels(chain: Chain, { ours, bob, carol }: Nodes): Promise<void> {
  const wanted: [Lnd, Lnd, number][] = [
    [ours, bob, CHANNEL_SATS],
    [ours, bob, CHANNEL_SATS],
    [bob, carol, WIDE_CHANNEL_SATS],
  ];
  for (const [from, to, sats] of wanted) {
    await eventually(() => from.openChannel(to.id, sats, sats / 2), 30_000, 250);
    await chain.mine(1);
  }
  // A channel is announced, and routable for third nodes, at six confirmations.
  await chain.mine(6);
}

/** Waits until every channel is up and our node knows all of them. */
const routable = ({ ours, bob, carol }: Nodes): Promise<void> =>
  eventually(async () => {
    const counts = await Promise.all(
      [ours, bob, carol].map(async (node) => (await node.channels()).filter(({ active }) => active).length),
    );
    if (counts.join() !== '2,3,1') throw new Error(`channels active: ${counts.join()}`);
    const { edges } = await ours.ask<{ edges: { node1_policy: unknown; node2_policy: unknown }[] }>(
      'describeGraph',
    );
    const known = edges.filter((edge) => edge.node1_policy && edge.node2_policy).length;
    if (known < 3) throw new Error(`channels known: ${known}`);
  }, 120_000);

/** Starts chain and nodes in a folder, or goes on with what is kept there; in the end all channels are up. */
async function startNodes(folder: string): Promise<{ chain: Chain; nodes: Nodes }> {
  const found = await tools;
  if ('missing' in found) throw new Error(found.missing);
  const fresh = !existsSync(join(folder, 'btcd'));
  mkdirSync(join(folder, 'btcd'), { recursive: true });
  const chain = await startChain(found.tools, join(folder, 'btcd'));
  const [ours, bob, carol] = await Promise.all([
    startLnd(found.tools, chain, join(folder, 'ours')),
    startLnd(found.tools, chain, join(folder, 'bob')),
    startLnd(found.tools, chain, join(folder, 'carol')),
  ]);
  const nodes = { ours, bob, carol };
  if (fresh) await fundAll(chain, Object.values(nodes));
  await Promise.all([ours.connect(bob), bob.connect(carol)]);
  if (fresh) await openChannels(chain, nodes);
  await routable(nodes);
  return { chain, nodes };
}

export interface NetworkTemplate {
  folder: string;
  remove(): Promise<void>;
}

/** Makes a network and lets it rest: with COULOMB_TEST_NETWORK as its folder, every network begins as a copy of it. */
export async function prepareNetwork(): Promise<NetworkTemplate> {
  const folder = mkdtempSync(join(tmpdir(), 'coulomb-regtest-'));
  const { chain, nodes } = await startNodes(folder);
  await chain.keep();
  await Promise.all(Object.values(nodes).map((node) => node.stop('SIGTERM')));
  await chain.stop();
  // The nodes of a copy remember where their peers were: a peer of another copy must never listen there.
  const kept = await Promise.all(Object.values(nodes).map(({ p2p }) => keepPort(p2p)));
  return {
    folder,
    async remove() {
      await Promise.all(kept.map((free) => free()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Starts chain and nodes in folders of their own, funded, with their channels. */
export async function startNetwork(): Promise<RegtestNetwork> {
  const folder = mkdtempSync(join(tmpdir(), 'coulomb-regtest-'));
  const template = process.env['COULOMB_TEST_NETWORK'];
  if (template !== undefined) cpSync(template, folder, { recursive: true });
  const { chain, nodes } = await startNodes(folder);
  const { ours } = nodes;
  const link = await startProxy(ours.rpc_port);
  const nodes_file = join(folder, 'nodes.json');
  writeFileSync(nodes_file, JSON.stringify([nodeEntry('ours', ours, link)]));
  const synced = async (): Promise<void> => {
    const height = await chain.height();
    await Promise.all(
      Object.values(nodes).map((node) =>
        eventually(async () => {
          const { block_height } = await node.ask<{ block_height: number }>('getInfo');
          if (block_height < height) throw new Error('behind');
        }),
      ),
    );
  };
  return {
    chain,
    ...nodes,
    link,
    nodes_file,
    folder,
    synced,
    async mine(count = 1) {
      await chain.mine(count);
      await synced();
    },
    async stop() {
      await link.stop();
      await Promise.all(Object.values(nodes).map((node) => node.stop()));
      await chain.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** An entry of the nodes file for an lnd of the network. */
const nodeEntry = (id: string, node: Lnd, link: { port: number } = { port: node.rpc_port }) => ({
  id,
  network: 'testnet3',
  kind: 'lnd',
  socket: `127.0.0.1:${link.port}`,
  cert_file: node.cert_file,
  macaroon_file: node.macaroon_file,
});

export type { Tools };
