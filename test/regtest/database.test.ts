import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createTestDatabase, startCluster, type TestCluster } from '../database.ts';
import { auditClean, type TestServer } from '../fixtures.ts';
import { driftOf, ready, realActor, startPlace } from './fixture.ts';
import { skip } from './ground.ts';
import { startNetwork, type RegtestNetwork } from './network.ts';
import { eventually } from '../wait.ts';

// PostgreSQL breaks under a server whose money is on a real node.
const FUNDS_MSATS = 200_000_000;
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

let net: RegtestNetwork;
before(async () => {
  if (skip === false) net = await startNetwork();
});
after(async () => {
  if (skip === false) await net.stop();
});

interface Bench {
  server: TestServer;
  me: ReturnType<typeof realActor>;
  cluster: TestCluster;
}

/** A server on a PostgreSQL of its own, which lies in `folder` if one is given. */
async function withCluster(work: (bench: Bench) => Promise<void>, folder?: string): Promise<void> {
  const cluster = await startCluster(folder);
  const place = await startPlace(net, {}, await createTestDatabase(cluster));
  try {
    const server = await place.start();
    const me = realActor(server, net);
    await me.fund(FUNDS_MSATS);
    await work({ server, me, cluster });
  } finally {
    // A PostgreSQL that is broken drops no database, and goes as a whole.
    await place.end().catch(() => {});
    await cluster.stop();
  }
}

interface Tried {
  id: string;
  payment_hash: string;
  accepted: boolean;
}

/** Sends without pause until `over`; everything but 202 must be a 503 that says when to come again. */
async function load({ me }: Bench, over: () => boolean): Promise<{ tried: Tried[]; refused: number }> {
  const tried: Tried[] = [];
  let refused = 0;
  const client = async (): Promise<void> => {
    while (!over()) {
      const { payment_request, payment_hash } = await net.carol.invoice({ amount_msats: 100_000n });
      const body = me.sendBody({ payment_request });
      const answer = await me.create(body);
      if (answer.status !== 202) {
        assert.equal(answer.status, 503, answer.text);
        assert.ok(answer.headers.get('retry-after'), 'it says when to come again');
        refused += 1;
        await pause(50);
      }
      tried.push({ id: body.id, payment_hash, accepted: answer.status === 202 });
    }
  };
  await Promise.all([client(), client(), client(), client()]);
  return { tried, refused };
}

/** Each payment is as the node says, money adds up, and nothing that was accepted is missing. */
async function allTrue({ me, server }: Bench, tried: readonly Tried[]): Promise<void> {
  await eventually(() => me.balance());
  let expected = FUNDS_MSATS;
  for (const { id, payment_hash, accepted } of tried) {
    const settled = (await net.carol.invoiceState(payment_hash)) === 'SETTLED';
    if (!accepted && (await me.find(id)) === null) {
      assert.ok(!settled, 'what was refused was not paid');
      continue;
    }
    const sent = await me.ended(id);
    const paid = (await net.carol.invoiceState(payment_hash)) === 'SETTLED';
    assert.equal(sent.status === 'completed', paid);
    if (paid) expected -= 100_000 + (sent.data.fees?.amount ?? 0);
  }
  assert.equal((await me.balance()).total, expected);
  await eventually(async () => assert.equal(await driftOf(server), 0n), 30_000, 500);
  await auditClean(server.db);
}

/** Load before, while and after something breaks. */
async function underLoad(
  bench: Bench,
  breakIt: () => Promise<void>,
): Promise<{ tried: Tried[]; refused: number }> {
  let over = false;
  const breaking = async (): Promise<void> => {
    try {
      await pause(1000);
      await breakIt();
      await ready(bench.server);
      await pause(1000);
    } finally {
      over = true;
    }
  };
  const [loaded] = await Promise.all([load(bench, () => over), breaking()]);
  return loaded;
}

test(
  'PostgreSQL killed -9 under load of a real node: 503 meanwhile, then every send ends once',
  { skip },
  () =>
    withCluster(async (bench) => {
      const { tried, refused } = await underLoad(bench, async () => {
        bench.cluster.kill();
        await pause(1500);
      });
      assert.ok(refused > 0, 'the database was away for a while');
      assert.ok(tried.filter(({ accepted }) => accepted).length > 5);
      await allTrue(bench, tried);
    }),
);

test(
  'connections to PostgreSQL cut one by one under load: nothing is lost, nothing paid twice',
  { skip },
  () =>
    withCluster(async (bench) => {
      const { tried } = await underLoad(bench, async () => {
        for (let round = 0; round < 3; round += 1) {
          const found = await bench.server.db.query<{ pid: number }>(
            `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
          );
          for (const { pid } of found) {
            await bench.server.db.query('SELECT pg_terminate_backend($1)', [pid]).catch(() => {});
            await pause(20);
          }
        }
      });
      assert.ok(tried.filter(({ accepted }) => accepted).length > 5);
      await allTrue(bench, tried);
    }),
);

const FULL_MS = 6000;
const DISK_BYTES = 320 * 1024 * 1024;

/** A small disk; null where this process may not mount one. */
function smallDisk(): { folder: string; remove(): void } | null {
  const folder = mkdtempSync(join(tmpdir(), 'coulomb-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES},mode=0711`, 'tmpfs', folder], {
      stdio: 'ignore',
    });
  } catch {
    rmSync(folder, { recursive: true });
    return null;
  }
  return {
    folder,
    remove() {
      execFileSync('umount', ['-l', folder]);
      rmSync(folder, { recursive: true });
    },
  };
}

/** Leaves no byte free; PostgreSQL may be writing at the same moment. */
function fill(filler: string, folder: string): void {
  const { bavail, bsize } = statfsSync(folder);
  try {
    writeFileSync(filler, Buffer.alloc(bavail * bsize));
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOSPC') throw error;
  }
}

test(
  'the disk of PostgreSQL full under load: 503 meanwhile, then every send ends once',
  { skip },
  async (t) => {
    const disk = smallDisk();
    if (!disk) return t.skip('not permitted: this process may not mount a small disk');
    try {
      await withCluster(async (bench) => {
        const filler = join(disk.folder, 'filler');
        const { tried, refused } = await underLoad(bench, async () => {
          fill(filler, disk.folder);
          await pause(FULL_MS);
          rmSync(filler);
        });
        assert.ok(refused > 0, 'the disk was full');
        await allTrue(bench, tried);
      }, disk.folder);
    } finally {
      disk.remove();
    }
  },
);
