import type { WalletAccount } from '../ledger/ledger.ts';
import type { CountedSend, Usage } from '../policies/usage.ts';
import { heldAt, receiveFailed, type Payment, type PaymentError } from './types.ts';

// What a wallet's policies allow (semantics.md section 4). Amounts are principals on the rail, in msats.

export type Limits = Pick<
  WalletAccount,
  'max_payment' | 'sends_per_minute' | 'send_volume' | 'ofac_compliant'
>;

/** What the sanctions list says of the address that a send pays; `unlisted` also where it pays none. */
export type Recipient = 'unlisted' | 'sanctioned' | 'unknown';

const isTooLarge = (amount: bigint, { max_payment }: Limits): boolean =>
  max_payment !== null && amount > max_payment;

const TOO_LARGE = "the amount is above the wallet's maximum for one payment";

function whyNot(amount: bigint, limits: Limits, usage: Usage, recipient: Recipient): string | null {
  if (isTooLarge(amount, limits)) return TOO_LARGE;
  if (limits.sends_per_minute !== null && usage.sends >= limits.sends_per_minute)
    return 'the wallet made as many sends in the last minute as its policy allows';
  if (limits.send_volume !== null && usage.volume + amount > limits.send_volume)
    return 'the wallet would send more in 24 hours than its policy allows';
  if (!limits.ofac_compliant || recipient === 'unlisted') return null;
  return recipient === 'sanctioned'
    ? 'the address is on the sanctions list'
    : 'there is no sanctions list here to check the address against';
}

/** Why a wallet's policies refuse a send, or null. */
export function refusedSend(
  amount: bigint,
  limits: Limits,
  usage: Usage,
  recipient: Recipient,
): PaymentError | null {
  const detail = whyNot(amount, limits, usage, recipient);
  return detail === null ? null : { type: 'rejected', detail: `refused by policy: ${detail}` };
}

/** Why a wallet's policies refuse a receive, or null; of any amount (null) there is nothing to judge. */
export function refusedReceive(amount: bigint | null, limits: Limits): PaymentError | null {
  if (amount === null || !isTooLarge(amount, limits)) return null;
  return receiveFailed('rejected', `refused by policy: ${TOO_LARGE}`);
}

/** A held send as it counts against its wallet's policies. */
export const countedSend = (payment: Payment): CountedSend => ({
  organization_id: payment.organization_id,
  id: payment.wallet_id,
  held_at: heldAt(payment),
  amount: payment.amount ?? 0n,
});
