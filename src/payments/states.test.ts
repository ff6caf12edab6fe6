import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayMove, MOVES, STATUS, statesOf, type Direction, type State } from './states.ts';

const TERMINAL = ['completed', 'failed'];

test('every move ends in a declared state, and every state has a status of the contract', () => {
  for (const direction of Object.keys(MOVES) as Direction[]) {
    for (const [from, targets] of Object.entries(MOVES[direction])) {
      assert.ok(from in STATUS);
      for (const to of targets) assert.ok(Object.hasOwn(MOVES[direction], to), `${from} -> ${to}`);
    }
  }
});

test('nothing leaves completed or failed: a settled payment never becomes failed', () => {
  for (const direction of Object.keys(MOVES) as Direction[]) {
    for (const from of TERMINAL) {
      for (const to of Object.keys(STATUS)) assert.ok(!mayMove(direction, from as State, to as State));
    }
  }
});

test('only late money leaves expired', () => {
  assert.deepEqual(MOVES.receive.expired, ['completed']);
});

test('every status a list can filter by maps to the states behind it', () => {
  assert.deepEqual(statesOf('approved'), ['checked', 'approved', 'claiming', 'dispatched']);
  assert.deepEqual(statesOf('sending'), []);
  assert.deepEqual(statesOf('completed'), ['completed']);
});
