/**
 * The state machine of a payment: every state and every move that exists. `move` is the only way
 * from one to another. Late money may complete an expired receive; nothing else leaves a terminal state.
 */
export const MOVES = {
  send: {
    // Held; the node has not been called. `claiming`: paid inside, the receive's invoice is being cancelled.
    approved: ['dispatched', 'failed'],
    claiming: ['completed', 'failed'],
    // The node may have been called. Only its own word ends this.
    dispatched: ['completed', 'failed'],
    completed: [],
    failed: [],
  },
  receive: {
    generating: ['receiving', 'failed'],
    receiving: ['completed', 'expired'],
    expired: ['completed'],
    completed: [],
    failed: [],
  },
} as const satisfies Record<string, Record<string, readonly string[]>>;

export type Direction = keyof typeof MOVES;
export type SendState = keyof typeof MOVES.send;
export type ReceiveState = keyof typeof MOVES.receive;
export type State = SendState | ReceiveState;

/** What the outside is told when a payment comes into a state (semantics.md section 5). */
export const EVENT_AT: { send: Partial<Record<State, string>>; receive: Partial<Record<State, string>> } = {
  send: { completed: 'succeeded', failed: 'failed' },
  receive: { receiving: 'generated', expired: 'expired', completed: 'completed', failed: 'failed' },
};

/** The contract's status of each state. */
export const STATUS: Record<State, string> = {
  approved: 'approved',
  claiming: 'approved',
  dispatched: 'approved',
  generating: 'generating',
  receiving: 'receiving',
  expired: 'expired',
  completed: 'completed',
  failed: 'failed',
};

/** The states behind a contract status; none for one that is over before a read can see it (`sending`). */
export const statesOf = (status: string): State[] =>
  (Object.keys(STATUS) as State[]).filter((state) => STATUS[state] === status);

/** States in which a payment has a job other than its expiry: few at any time, however many are stored. */
const MOVING: ReadonlySet<State> = new Set<State>(['generating', 'approved', 'claiming', 'dispatched']);

/** True when every one of these contract statuses is of payments that are being moved right now. */
export const areMoving = (statuses: readonly string[]): boolean =>
  statuses.flatMap(statesOf).every((state) => MOVING.has(state));

/** Whether the table allows this move. */
export function mayMove(direction: Direction, from: State, to: State): boolean {
  const moves: Record<string, readonly string[]> = MOVES[direction];
  return moves[from]?.includes(to) ?? false;
}
