import { isAtRest, STATUS } from './states.ts';
import type { Payment } from './types.ts';

// How payments are counted (docs/decisions/0015): at rest by rows that every batch adds, folded later; under way by their
// jobs. Pure; `fold.ts` adds up, `summary.ts` reads.

/** One row of `payment_count_changes`: how many payments of a sort came to rest in a slot, or left it. */
const changeOf = (payment: Payment, status: string, count: number) => ({
  organization_id: payment.organization_id,
  environment_id: payment.environment_id,
  line_of_credit_id: payment.line_of_credit_id,
  wallet_id: payment.wallet_id,
  direction: payment.direction,
  kind: payment.kind,
  currency: payment.currency,
  status,
  slot: slotOf(payment.created_at),
  count,
  oldest: payment.created_at,
  newest: payment.created_at,
});
type CountChange = ReturnType<typeof changeOf>;

/** The contract's status that a payment is counted under once it is at rest; null while it is under way. */
export const restingStatus = (payment: Payment): string | null =>
  isAtRest(payment) ? STATUS[payment.state] : null;

/** What a job says of its payment, so that payments under way are counted by their jobs. */
export const openFacts = (payment: Payment) => ({
  wallet_id: payment.wallet_id,
  line_of_credit_id: payment.line_of_credit_id,
  direction: payment.direction,
  payment_kind: payment.kind,
  currency: payment.currency,
  created_at: payment.created_at,
  status: isAtRest(payment) ? null : STATUS[payment.state],
});

/** The slot of ten seconds of a time as the wire writes it: the same text with its last digit of seconds zeroed. */
const slotOf = (at: string): string => `${at.slice(0, 18)}0Z`;

/** What a batch changes of the counts: of all that it wrote, the payments that are counted otherwise than before. */
export function countChanges(
  payments: readonly Payment[],
  countedAs: (payment: Payment) => string | null,
): CountChange[] {
  const changes = new Map<string, CountChange>();
  const add = (payment: Payment, status: string | null, count: 1 | -1): void => {
    if (status === null) return;
    const { organization_id, wallet_id, direction, kind, created_at } = payment;
    const key = `${organization_id}/${wallet_id}/${direction}/${kind}/${status}/${slotOf(created_at)}/${count}`;
    const known = changes.get(key);
    if (!known) {
      changes.set(key, changeOf(payment, status, count));
      return;
    }
    known.count += count;
    if (created_at < known.oldest) known.oldest = created_at;
    if (created_at > known.newest) known.newest = created_at;
  };
  for (const payment of payments) {
    const [before, after] = [countedAs(payment), restingStatus(payment)];
    if (before === after) continue;
    add(payment, before, -1);
    add(payment, after, 1);
  }
  return [...changes.values()];
}
