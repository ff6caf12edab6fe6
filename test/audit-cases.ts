import { randomUUID } from 'node:crypto';

// What a bug or a hand could do to the stored data, and which check of the audit must notice it.

/** Ids of what the test has made, filled in before the statements are asked for. */
export const ids = {
  wallet: '',
  line: '',
  sent: '',
  failed: '',
  stuck: '',
  received: '',
  open: '',
  dollars: '',
  check: '',
};

const without = (table: string, constraint: string): string =>
  `ALTER TABLE ${table} DROP CONSTRAINT ${constraint}`;
const FLOOR = without('accounts', 'wallet_floor');

export const TOTAL_OF_TRANSFERS = "a wallet's total is the sum of its transfers";
const TOTAL_OF_EVENTS = "a wallet's total is the sum of its ledger events";
const ONE_CURRENCY = 'transfers move within one organization and currency';
const FLOORS = 'no wallet is below its floor, no other account carries a balance';
const HELD = 'what a wallet has on hold is the sum of its holds';
const HOLD_LIFE = 'every hold was held once, ended at most once, and never captured beyond what was held';
const HOLD_OWNER =
  'every hold belongs to a send in flight or a frozen receive, and every send in flight has its own';
const ALLOCATED = 'what a line of credit allocated is the sum of the limits of its live wallets';
const AGREE = 'a wallet, its account and its line agree';
const POLICIES = "what a wallet's account may do is what its policies say";
const MINUTES = 'the minutes of a wallet with a volume policy are what it sent in them';
const ROLLUPS = 'rollups are the sum of the transfers before their horizon';
export const HISTORY =
  'a history has no gaps and tells one of the stories that lead to the state, with one end';
const CREDITED = 'a receive was credited what its ledger events say, and is completed when that is enough';
const CAPTURED =
  'a send was captured once if it completed, never otherwise, at its rate and within its fee cap';
const RECEIPTS = 'every credit has its receipt, and every one from outside a key that nothing else has';
const ONE_HASH = 'a payment hash is in flight or settled for one send only';
const JOBS = 'every payment under way has a job, and no other has';
const EXCHANGED = 'what payments exchanged is what moved through the exchange accounts in dollars';
const SUSPENSE = 'what waits in suspense is what payments say';
const QUOTES = 'a quote serves the one payment that names it, and that one agrees with it';

const COUNTED = 'payments at rest are counted once, between the first and the last of them';
const COUNT_SUMS = 'counts of longer times are the sums of those of shorter ones';
const JOB_SAYS = 'a job says of its payment what is so';

export const cases: [what: string, expected: string, statements: () => string[]][] = [
  [
    'a payment counted twice',
    COUNTED,
    () => [`UPDATE payment_counts SET count = count + 1 WHERE scope = 'wallet' AND status = 'completed'`],
  ],
  ['payments not counted', COUNTED, () => [`DELETE FROM payment_counts WHERE status = 'failed'`]],
  [
    'a first payment that is not the first',
    COUNTED,
    () => [`UPDATE payment_counts SET oldest = oldest + interval '1 microsecond' WHERE scope = 'wallet'`],
  ],
  [
    'a day that is not the sum of its hours',
    COUNT_SUMS,
    () => [`UPDATE payment_counts SET count = count + 1 WHERE width = 86400`],
  ],
  ['a time that is missing', COUNT_SUMS, () => [`DELETE FROM payment_counts WHERE width = 900`]],
  [
    'a job of a receive that says it were a send',
    JOB_SAYS,
    () => [`UPDATE jobs SET direction = 'send' WHERE payment_id = '${ids.open}'`],
  ],
  [
    'a job that lost the status of its payment',
    JOB_SAYS,
    () => [`UPDATE jobs SET status = NULL WHERE payment_id = '${ids.open}'`],
  ],
  [
    'a balance raised by hand',
    TOTAL_OF_TRANSFERS,
    () => [`UPDATE accounts SET total = total + 1 WHERE id = '${ids.wallet}'`],
  ],
  [
    'a transfer deleted',
    TOTAL_OF_TRANSFERS,
    () => ['DELETE FROM transfers WHERE seq = (SELECT min(seq) FROM transfers)'],
  ],
  ['an event deleted', TOTAL_OF_EVENTS, () => [`DELETE FROM ledger_events WHERE type = 'credited'`]],
  [
    'an event changed',
    TOTAL_OF_EVENTS,
    () => [`UPDATE ledger_events SET amount = amount + 1 WHERE payment_id = '${ids.received}'`],
  ],
  [
    'a transfer to an account of another currency',
    ONE_CURRENCY,
    () => [`UPDATE transfers SET currency = 'usd' WHERE payment_id = '${ids.sent}'`],
  ],
  [
    'a transfer to an account that does not exist',
    ONE_CURRENCY,
    () => [`UPDATE transfers SET to_account = '${randomUUID()}'`],
  ],
  [
    'a wallet below its floor',
    FLOORS,
    () => [FLOOR, `UPDATE accounts SET held = total + "limit" + 1 WHERE id = '${ids.wallet}'`],
  ],
  [
    'a balance on an account that carries none',
    FLOORS,
    () => [
      without('accounts', 'unlocked_accounts_carry_no_balance'),
      `UPDATE accounts SET total = 1 WHERE kind = 'loss'`,
    ],
  ],
  [
    'more on hold than the holds',
    HELD,
    () => [`UPDATE accounts SET held = held + 1 WHERE id = '${ids.wallet}'`],
  ],
  ['a hold deleted', HELD, () => ['DELETE FROM holds']],
  [
    'a hold that was never held',
    HOLD_LIFE,
    () => [`DELETE FROM ledger_events WHERE payment_id = '${ids.stuck}'`],
  ],
  ['a hold that was released and is still open', HOLD_LIFE, () => [repeat('held', ids.stuck, 'released')]],
  ['a hold that was captured twice', HOLD_LIFE, () => [repeat('captured', ids.sent, 'captured')]],
  [
    'a capture beyond the hold',
    HOLD_LIFE,
    () => [`UPDATE ledger_events SET amount = 1 WHERE type = 'held' AND payment_id = '${ids.sent}'`],
  ],
  [
    'a hold of a send that ended',
    HOLD_OWNER,
    () => [`UPDATE payments SET state = 'failed' WHERE id = '${ids.stuck}'`],
  ],
  [
    'a send in flight without a hold',
    HOLD_OWNER,
    () => [`UPDATE payments SET state = 'dispatched' WHERE id = '${ids.failed}'`],
  ],
  [
    'a hold of another amount than its send asks',
    HOLD_OWNER,
    () => [`UPDATE payments SET max_fee = max_fee + 1 WHERE id = '${ids.stuck}'`],
  ],
  [
    'a line that allocated more than its wallets have',
    ALLOCATED,
    () => [`UPDATE lines_of_credit SET allocated_limit = allocated_limit + 1 WHERE id = '${ids.line}'`],
  ],
  [
    'a deleted wallet that kept its share',
    ALLOCATED,
    () => ['UPDATE accounts SET deleted_at = now() WHERE "limit" = 500'],
  ],
  [
    'a line disabled without its wallets',
    AGREE,
    () => [`UPDATE lines_of_credit SET disabled_at = now() WHERE id = '${ids.line}'`],
  ],
  [
    'a wallet moved to another network',
    AGREE,
    () => [`UPDATE wallets SET network = 'mainnet' WHERE id = '${ids.wallet}'`],
  ],
  [
    'a fee of a line that its wallets do not have',
    AGREE,
    () => [`UPDATE lines_of_credit SET send_bps = 5 WHERE id = '${ids.line}'`],
  ],
  ['a policy that payments do not see', POLICIES, () => ['UPDATE accounts SET max_payment = NULL']],
  [
    'a limit without its policy',
    POLICIES,
    () => [`UPDATE accounts SET sends_per_minute = 1 WHERE id = '${ids.wallet}'`],
  ],
  [
    'a policy removed by hand',
    POLICIES,
    () => [`DELETE FROM wallet_policies WHERE type = 'max_payment_size'`],
  ],
  ['a minute that counts too much', MINUTES, () => ['UPDATE send_minutes SET amount = amount + 1']],
  [
    'a send that no minute counts',
    MINUTES,
    () => [
      `INSERT INTO send_minutes SELECT organization_id, wallet_id, minute - interval '1 hour', 0 FROM send_minutes
       ORDER BY minute LIMIT 1`,
      `DELETE FROM send_minutes WHERE amount > 0`,
    ],
  ],
  [
    'minutes of a wallet without a volume policy',
    MINUTES,
    () => [`UPDATE accounts SET send_volume = NULL WHERE id = '${ids.wallet}'`],
  ],
  [
    'a check that went on by itself',
    HISTORY,
    () => [
      without('payments', 'check_holds_nothing'),
      `UPDATE payments SET state = 'dispatched' WHERE id = '${ids.check}'`,
    ],
  ],
  ['a rollup that is off by one', ROLLUPS, () => ['UPDATE account_rollups SET balance = balance + 1']],
  ['a rollup of entries that are gone', ROLLUPS, () => ['DELETE FROM transfers']],
  [
    'a gap in a history',
    HISTORY,
    () => [`DELETE FROM payment_history WHERE payment_id = '${ids.sent}' AND position = 2`],
  ],
  [
    'a history cut short',
    HISTORY,
    () => [`UPDATE payments SET last_position = last_position + 1 WHERE id = '${ids.sent}'`],
  ],
  [
    'a payment without a history',
    HISTORY,
    () => [`DELETE FROM payment_history WHERE payment_id = '${ids.open}'`],
  ],
  ['a history without a payment', HISTORY, () => [`DELETE FROM payments WHERE id = '${ids.failed}'`]],
  [
    'a settled send that turned failed',
    HISTORY,
    () => [`UPDATE payments SET state = 'failed' WHERE id = '${ids.sent}'`],
  ],
  [
    'a payment that ended twice',
    HISTORY,
    () => [
      `INSERT INTO payment_history SELECT organization_id, environment_id, payment_id, position + 1, 'failed', 'x', at
       FROM payment_history WHERE payment_id = '${ids.sent}' AND event_type = 'completed'`,
      `UPDATE payments SET last_position = last_position + 1 WHERE id = '${ids.sent}'`,
    ],
  ],
  [
    'a state that nobody declared',
    HISTORY,
    () => [`UPDATE payments SET state = 'odd' WHERE id = '${ids.failed}'`],
  ],
  ['a receive credited twice', CREDITED, () => [repeat('credited', ids.received, 'credited')]],
  [
    'a receive completed below what was asked',
    CREDITED,
    () => [`UPDATE payments SET payable = payable + 1 WHERE id = '${ids.received}'`],
  ],
  [
    'a completed send that was not captured',
    CAPTURED,
    () => [`DELETE FROM ledger_events WHERE type = 'captured' AND payment_id = '${ids.sent}'`],
  ],
  [
    'a failed send that was captured',
    CAPTURED,
    () => [`UPDATE ledger_events SET type = 'captured' WHERE type = 'released'`],
  ],
  ['a fee above the cap', CAPTURED, () => [`UPDATE payments SET max_fee = 1 WHERE id = '${ids.sent}'`]],
  [
    'a negative fee',
    CAPTURED,
    () => [
      without('payments', 'payments_network_fee_check'),
      `UPDATE payments SET network_fee = -5 WHERE id = '${ids.sent}'`,
    ],
  ],
  [
    'a credit without a receipt',
    RECEIPTS,
    () => [`UPDATE payments SET receipts = '[]' WHERE id = '${ids.received}'`],
  ],
  [
    'a receipt without a credit',
    RECEIPTS,
    () => [`UPDATE ledger_events SET event_id = gen_random_uuid() WHERE type = 'credited'`],
  ],
  [
    'a credit from outside without its key',
    RECEIPTS,
    () => [`DELETE FROM payment_keys WHERE kind = 'credit'`],
  ],
  [
    'a hash that another payment claims',
    ONE_HASH,
    () => [`UPDATE payment_keys SET payment_id = '${randomUUID()}' WHERE kind = 'send'`],
  ],
  [
    'a failed send that kept its hash',
    ONE_HASH,
    () => [`UPDATE payments SET state = 'failed' WHERE id = '${ids.sent}'`],
  ],
  [
    'a payment under way that nobody moves',
    JOBS,
    () => [`DELETE FROM jobs WHERE payment_id = '${ids.stuck}'`],
  ],
  [
    'a job of a payment that ended',
    JOBS,
    () => [`UPDATE jobs SET payment_id = '${ids.sent}' WHERE payment_id = '${ids.open}'`],
  ],
  [
    'a send of dollars captured at another rate than its own',
    CAPTURED,
    () => [
      `UPDATE payments SET quote = jsonb_set(quote, '{rate}', '"6500001e1"') WHERE id = '${ids.dollars}'`,
    ],
  ],
  [
    'an exchange that the ledger does not know',
    EXCHANGED,
    () => [
      `UPDATE payments SET exchanges = jsonb_set(exchanges, '{0,usd_cents}', '"1"') WHERE id = '${ids.dollars}'`,
    ],
  ],
  [
    'money that left suspense without a trace',
    SUSPENSE,
    () => [`UPDATE payments SET suspended = suspended - 1 WHERE suspended > 0`],
  ],
  [
    'a quote used by another payment',
    QUOTES,
    () => [`UPDATE quotes SET payment_id = '${randomUUID()}' WHERE payment_id = '${ids.dollars}'`],
  ],
  [
    'a quote that was used and is open again',
    QUOTES,
    () => [
      `UPDATE quotes SET consumed_at = NULL, payment_id = NULL, wallet_id = NULL WHERE payment_id = '${ids.dollars}'`,
    ],
  ],
];

/** Writes an event of a payment's ledger once more, perhaps as another type. */
function repeat(type: string, payment_id: string, as: string): string {
  return `INSERT INTO ledger_events (organization_id, wallet_id, effective_time, type, event_id, payment_id, currency, amount)
    SELECT organization_id, wallet_id, effective_time, '${as}', event_id, payment_id, currency, amount
    FROM ledger_events WHERE type = '${type}' AND payment_id = '${payment_id}'`;
}
