import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Choices that follow from a seed. What runs in parallel throws dice of its own, so that none disturbs another's. */
export interface Dice {
  /** A whole number from `least` to `most`, both included. */
  between(least: number, most: number): number;
  pick<T>(items: readonly T[]): T;
  /** True in `percent` of all throws. */
  chance(percent: number): boolean;
}

/** Dice that fall the same for the same seed. */
export function createDice(seed: number): Dice {
  const generator = xoroshiro128plus(seed);
  const between = (least: number, most: number): number => uniformInt(generator, least, most);
  return {
    between,
    pick<T>(items: readonly T[]): T {
      if (items.length === 0) throw new Error('nothing to pick from');
      return items[between(0, items.length - 1)] as T;
    },
    chance: (percent) => between(1, 100) <= percent,
  };
}

export const pause = (ms: number): Promise<void> => new Promise((done) => void setTimeout(done, ms));
