import { createDice, pause } from './dice.ts';
import { breakThings, NODE_FAULTS, SERVER_FAULTS } from './faults.ts';
import { keepReachable } from './heal.ts';
import { work, type Load } from './load.ts';
import { judge, type Judgement } from './verdict.ts';
import { startWorld, type World } from './world.ts';

const CLIENTS = 16;
/** Confirmations and timeouts go on while things break. */
const BLOCK_MS = 8000;
const CALM_MS = 1000;

export interface ChaosOptions {
  /** What breaks when, and what is tried, follow from it; how they interleave does not. */
  seed: number;
  seconds: number;
  say(line: string): void;
}

export interface ChaosReport extends Judgement {
  payments: number;
  given_up: number;
  faults: ReadonlyMap<string, number>;
}

/** Everything is up again, and nothing is held back. */
async function calm(world: World, load: Load): Promise<void> {
  world.net.link.mend();
  world.net.link.reset();
  await Promise.all(Array.from({ length: world.slots }, (_, slot) => world.start(slot)));
  // Whoever made it has stopped: what was to be settled and what cancelled are equally good ends.
  await Promise.allSettled([...load.held].map((held) => held.cancel()));
  await pause(CALM_MS);
}

/** Loads and breaks a deployment for a while; throws when a payment is not what node and payee say it is. */
export async function runChaos({ seed, seconds, say }: ChaosOptions): Promise<ChaosReport> {
  const world = await startWorld();
  const load: Load = { stories: [], held: new Set(), given_up: 0 };
  const faults = new Map<string, number>();
  const end_at = performance.now() + seconds * 1000;
  const over = (): boolean => performance.now() >= end_at;
  const since = (): string => ((performance.now() - end_at) / 1000 + seconds).toFixed(1).padStart(6);
  const telling = { over, say: (line: string) => say(`${since()} s  ${line}`) };
  try {
    const clients = Array.from({ length: CLIENTS }, (_, index) =>
      work(world, createDice(seed + 2 + index), load, over),
    );
    const miner = setInterval(() => void world.net.chain.mine(1).catch(() => {}), BLOCK_MS);
    const healing = keepReachable(world, over);
    const breaking = [
      breakThings(world, createDice(seed), SERVER_FAULTS, faults, telling),
      breakThings(world, createDice(seed + 1), NODE_FAULTS, faults, telling),
    ];
    await Promise.all(breaking);
    const opened = await healing;
    clearInterval(miner);
    telling.say(`all is mended; channels to the payee opened anew: ${opened}`);
    const ending = Promise.all(clients);
    await calm(world, load);
    await ending;
    await calm(world, load);
    const judgement = await judge(world, load);
    return { payments: load.stories.length, given_up: load.given_up, faults, ...judgement };
  } catch (error) {
    telling.say(`what the servers printed: ${world.keepOutput(`seed-${seed}`)}`);
    throw error;
  } finally {
    await world.end();
  }
}
