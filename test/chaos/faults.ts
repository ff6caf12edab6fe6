import { pause, type Dice } from './dice.ts';
import type { World } from './world.ts';

/** One thing that breaks and is mended again. */
type Fault = (world: World, dice: Dice) => Promise<void>;

const linkFor =
  (least_ms: number, most_ms: number, breakIt: (world: World, dice: Dice) => void): Fault =>
  async (world, dice) => {
    breakIt(world, dice);
    await pause(dice.between(least_ms, most_ms));
    world.net.link.mend();
  };

const restartServer: Fault = async (world, dice) => {
  const slot = dice.between(0, world.slots - 1);
  await world.kill(slot);
  await pause(dice.between(0, 2000));
  await world.start(slot);
};

async function restartNode(world: World, name: 'ours' | 'bob' | 'carol', away_ms: number): Promise<void> {
  const node = world.net[name];
  await node.kill();
  await pause(away_ms);
  await node.start();
  // Peers find each other again by themselves, but only after a pause that grows.
  await world.net.bob.connect(world.net[name === 'bob' ? 'ours' : name]).catch(() => {});
  await world.net.bob.connect(world.net.carol).catch(() => {});
}

/** What happens to servers; two at once are rare and both come back. */
export const SERVER_FAULTS: Readonly<Record<string, Fault>> = {
  'server killed': restartServer,
  'both servers killed': async (world, dice) => {
    const slots = Array.from({ length: world.slots }, (_, slot) => slot);
    await Promise.all(slots.map((slot) => world.kill(slot)));
    await pause(dice.between(0, 2000));
    await Promise.all(slots.map((slot) => world.start(slot)));
  },
  'database connections cut one by one': async (world, dice) => {
    const found = await world.db.query<{ pid: number }>(
      'SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
    );
    for (const { pid } of found) {
      await world.db.query('SELECT pg_terminate_backend($1)', [pid]);
      await pause(dice.between(0, 50));
    }
  },
  'database killed': (world) => Promise.resolve(world.cluster.kill()),
};

/** What happens to the node, its link and the network behind it. */
export const NODE_FAULTS: Readonly<Record<string, Fault>> = {
  'link reset': (world) => Promise.resolve(world.net.link.reset()),
  'link cut': linkFor(200, 5000, (world) => world.net.link.cut()),
  'answers swallowed': linkFor(500, 18_000, (world) => world.net.link.holdAnswers()),
  'calls delivered late': linkFor(500, 25_000, (world) => world.net.link.hold()),
  'link slow': linkFor(1000, 6000, (world, dice) => world.net.link.delay(dice.between(20, 3000))),
  'node killed': (world, dice) => restartNode(world, 'ours', dice.between(0, 3000)),
  'node hangs': async (world, dice) => {
    world.net.ours.signal('SIGSTOP');
    await pause(dice.between(500, 12_000));
    world.net.ours.signal('SIGCONT');
  },
  'peer killed': (world, dice) => restartNode(world, 'bob', dice.between(0, 2000)),
  'payee killed': (world, dice) => restartNode(world, 'carol', dice.between(0, 2000)),
  'block replaced': (world) => world.net.chain.reorg(1),
};

/** Breaks one thing after the other until `over`; counts them by name. */
export async function breakThings(
  world: World,
  dice: Dice,
  faults: Readonly<Record<string, Fault>>,
  counts: Map<string, number>,
  { over, say }: { over: () => boolean; say: (line: string) => void },
): Promise<void> {
  const names = Object.keys(faults);
  while (!over()) {
    await pause(dice.between(500, 6000));
    const name = dice.pick(names);
    say(name);
    counts.set(name, (counts.get(name) ?? 0) + 1);
    try {
      await faults[name]?.(world, dice);
    } catch (error) {
      // The database may have been away for the one that cuts its connections.
      say(`${name}: ${(error as Error).message}`);
    }
  }
}
