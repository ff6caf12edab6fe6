import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { moveFunds } from '../../src/admin/operator.ts';
import { actor } from '../actor.ts';
import { createTestDatabase, startCluster } from '../database.ts';
import type { ServerProcess } from '../fixtures.ts';
import { ready, startPlace } from '../regtest/fixture.ts';
import { startNetwork } from '../regtest/network.ts';
import { pause } from './dice.ts';

const SERVERS = 2;
const FUNDS_MSATS = 1_500_000_000n;
const RESTART_PAUSE_MS = 500;
/** A wait for one answer; the run as a whole waits longer. */
const PATIENCE_MS = 20_000;

export type World = Awaited<ReturnType<typeof startWorld>>;

/** Everything that can break: two servers on one PostgreSQL of their own, one node, a network behind it. */
export async function startWorld() {
  const net = await startNetwork();
  const cluster = await startCluster();
  const database = await createTestDatabase(cluster);
  const place = await startPlace(net, { COULOMB_LOG_LEVEL: 'info' }, database);
  const { db, credentials } = place;
  const servers: (ServerProcess | null)[] = Array.from({ length: SERVERS }, () => null);
  let printed = '';

  /** Starts a server again and again: PostgreSQL may be away just now. */
  async function start(slot: number): Promise<void> {
    while (!servers[slot]) {
      servers[slot] = await place.spawn().catch(() => null);
      if (!servers[slot]) await pause(RESTART_PAUSE_MS);
    }
  }
  async function kill(slot: number): Promise<void> {
    const server = servers[slot];
    servers[slot] = null;
    await server?.kill('SIGKILL');
    printed += server?.output() ?? '';
  }
  /** A client of one of the servers that run now; of the last that ran where none does. */
  function client(slot: number) {
    const found = servers[slot % SERVERS] ?? servers.find((server) => server !== null);
    return found ? actor(place.through(found), PATIENCE_MS) : null;
  }
  await Promise.all(servers.map((_server, slot) => start(slot)));
  const [first] = servers;
  if (!first) throw new Error('no server started');
  const through = place.through(first);
  await ready(through);
  const other_wallet = await actor(through).newWallet();
  for (const wallet of [credentials.wallet_id, other_wallet]) {
    await moveFunds(db, 'deposit', wallet, FUNDS_MSATS);
  }
  return {
    net,
    db,
    cluster,
    wallets: [credentials.wallet_id, other_wallet] as const,
    deposited: FUNDS_MSATS * 2n,
    slots: SERVERS,
    start,
    kill,
    client,
    /** A client that is there, whatever it takes. */
    async anyClient() {
      for (;;) {
        const found = client(0);
        if (found) return found;
        await pause(RESTART_PAUSE_MS);
      }
    },
    base_url: () => servers.find((server) => server !== null)?.base_url ?? '',
    /** Writes what the servers printed into a file; its path. */
    keepOutput(name: string): string {
      const path = join(mkdtempSync(join(tmpdir(), 'coulomb-chaos-')), `${name}.log`);
      writeFileSync(path, printed + servers.map((server) => server?.output() ?? '').join('\n'));
      return path;
    },
    async end(): Promise<void> {
      await Promise.all(servers.map((_server, slot) => kill(slot)));
      await place.end();
      await cluster.stop();
      await net.stop();
      rmSync(net.folder, { recursive: true, force: true });
    },
  };
}
