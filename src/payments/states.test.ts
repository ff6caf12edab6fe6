import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  areMovingOrChecks,
  EVENT_AT,
  isAtRest,
  mayMove,
  MOVES,
  STATUS,
  statesOf,
  type Direction,
  type State,
} from './states.ts';

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

test('exactly the moves of the table are allowed, and none from a state of the other direction', () => {
  assert.ok(mayMove('send', 'approved', 'dispatched'));
  for (const direction of Object.keys(MOVES) as Direction[]) {
    const table: Partial<Record<string, readonly string[]>> = MOVES[direction];
    for (const from of Object.keys(STATUS) as State[]) {
      for (const to of Object.keys(STATUS) as State[]) {
        const allowed = table[from]?.includes(to) === true;
        assert.equal(mayMove(direction, from, to), allowed, `${direction}: ${from} -> ${to}`);
      }
    }
  }
});

test('a state is its own status, but for those of an approved send', () => {
  for (const [state, status] of Object.entries(STATUS)) {
    const shown = ['checked', 'claiming', 'dispatched'].includes(state) ? 'approved' : state;
    assert.equal(status, shown);
  }
});

test('a payment is at rest where nobody has to end it, and a check wherever it is', () => {
  const resting = Object.keys(STATUS).filter((state) =>
    isAtRest({ state: state as State, check_only: false }),
  );
  assert.deepEqual(resting, ['checked', 'expired', 'completed', 'failed']);
  for (const state of Object.keys(STATUS)) {
    assert.ok(isAtRest({ state: state as State, check_only: true }));
  }
});

test('a list is of what is being moved, or of checks, only where every status of it is', () => {
  for (const status of ['generating', 'approved']) assert.ok(areMovingOrChecks([status]));
  assert.ok(areMovingOrChecks(['generating', 'approved']));
  for (const status of ['receiving', 'expired', 'completed', 'failed']) {
    assert.ok(!areMovingOrChecks(['approved', status]));
  }
});

test('the outside is told of every end, and of a receive that can be paid', () => {
  assert.deepEqual(EVENT_AT, {
    send: { completed: 'succeeded', failed: 'failed' },
    receive: { receiving: 'generated', expired: 'expired', completed: 'completed', failed: 'failed' },
  });
});
