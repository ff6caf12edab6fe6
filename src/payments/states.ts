/**
 * The state machine of a payment: every state and every move that exists. `move` is the only way
 * from one to another. Late money may complete an expired receive; nothing else leaves a terminal state.
 */
export const MOVES = {
  send: {
    // Judged by the wallet's policies, nothing held: a check rests here, anything else only passes through.
    checked: ['approved', 'claiming', 'failed'],
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
  checked: 'approved',
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

/** States that somebody or something still has to end; a policy check has nothing to wait for in any of them. */
const UNDER_WAY: ReadonlySet<State> = new Set<State>([
  'generating',
  'receiving',
  'approved',
  'claiming',
  'dispatched',
]);

/** Whether a payment has come to rest: counted as such until it leaves (an expired receive that is paid late). */
export const isAtRest = ({ state, check_only }: { state: State; check_only: boolean }): boolean =>
  check_only || !UNDER_WAY.has(state);

/** States in which a payment has a job other than its expiry: few at any time, however many are stored. */
const MOVING: ReadonlySet<State> = new Set<State>(['generating', 'approved', 'claiming', 'dispatched']);

/** True when every one of these contract statuses is of payments that are being moved right now, or of checks. */
export const areMovingOrChecks = (statuses: readonly string[]): boolean =>
  statuses.flatMap(statesOf).every((state) => MOVING.has(state) || state === 'checked');

/** Whether the table allows this move. */
export function mayMove(direction: Direction, from: State, to: State): boolean {
  const moves: Record<string, readonly string[]> = MOVES[direction];
  return moves[from]?.includes(to) ?? false;
}

// Stryker disable all: SQL, judged by the tests against PostgreSQL.

const quoted = (words: Iterable<string>): string => [...words].map((word) => `'${word}'`).join(', ');
/** Whether a row `p` of payments has come to rest, in SQL. */
export const AT_REST_SQL = `(p.check_only OR p.state NOT IN (${quoted(UNDER_WAY)}))`;
/** The contract's status of a row `p` of payments, in SQL. */
export const STATUS_SQL = `CASE p.state ${Object.entries(STATUS)
  .filter(([state, status]) => state !== status)
  .map(([state, status]) => `WHEN '${state}' THEN '${status}'`)
  .join(' ')} ELSE p.state END`;
