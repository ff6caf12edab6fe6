import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MOVES, nextAttempt, statesBefore } from './states.ts';

const HOUR_MS = 3_600_000;

test('attempts come after about 1 s, 5 s, 30 s, 2 min, 10 min, 1 h, then every few hours until 24 h', () => {
  let now_ms = 0;
  const pauses: number[] = [];
  for (let attempts = 1; ; attempts += 1) {
    const next = nextAttempt({ attempts, round_started_ms: 0, now_ms, random: 0.5, asked_ms: 0 });
    if (next === null) break;
    pauses.push((next - now_ms) / 1000);
    now_ms = next;
  }
  assert.deepEqual(pauses.slice(0, 6), [1, 5, 30, 120, 600, 3600]);
  assert.ok(pauses.slice(6).every((pause) => pause === 4 * 3600));
  assert.ok(
    now_ms > 20 * HOUR_MS && now_ms <= 24 * HOUR_MS,
    'the last one is within the day, and late in it',
  );
});

test('no attempt comes at once, none after the day is over and every pause was tried, whatever the receiver asks for', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 0, max: 24 * HOUR_MS }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 0, max: 1e12 }),
      (attempts, now_ms, random, asked_ms) => {
        const next = nextAttempt({ attempts, round_started_ms: 0, now_ms, random, asked_ms });
        if (next === null) return attempts >= 7;
        return next >= now_ms + 800 && (next <= 24 * HOUR_MS || attempts < 7);
      },
    ),
  );
});

test('a delivery that arrived is never failed or abandoned; it may only begin again', () => {
  assert.deepEqual(MOVES.succeeded, ['attempting']);
  assert.deepEqual(statesBefore('abandoned'), ['attempting', 'failed']);
});
