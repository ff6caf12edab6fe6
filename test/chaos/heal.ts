import { pause } from './dice.ts';
import type { World } from './world.ts';

const LOOK_MS = 5000;
/** Looks in a row without a way: killed nodes are back and have found each other long before. */
const LOOKS = 4;
const CHANNEL_SATS = 16_000_000;
const ANNOUNCED_BLOCKS = 6;

/** Whether bob and carol are there and have no channel that works. */
async function cutOff({ net: { bob, carol } }: World): Promise<boolean> {
  await bob.connect(carol);
  const channels = await carol.channels();
  return !channels.some(({ active }) => active);
}

/**
 * Opens another channel to the payee when none works any more, as its operator would; says how many it opened. An
 * lnd (0.21) that is killed while it holds HTLCs may, when it is back, settle one that is settled already ("No HTLC
 * with ID"): its channel then fails at every connection, and what is in flight there ends on the chain.
 */
export async function keepReachable(world: World, over: () => boolean): Promise<number> {
  let opened = 0;
  for (let looks = 0; !over();) {
    await pause(LOOK_MS);
    // Who is away just now is not cut off.
    looks = (await cutOff(world).catch(() => false)) ? looks + 1 : 0;
    if (looks < LOOKS) continue;
    looks = 0;
    try {
      const { bob, carol, chain } = world.net;
      await bob.openChannel(carol.id, CHANNEL_SATS, CHANNEL_SATS / 2);
      opened += 1;
      await chain.mine(ANNOUNCED_BLOCKS);
    } catch {
      // One of them has gone meanwhile: at the next look.
    }
  }
  return opened;
}
