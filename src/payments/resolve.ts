import { createHash } from 'node:crypto';
import type { Engine } from './engine.ts';
import { failSendCommand, settleSendCommand } from './settle.ts';
import { sendFailed, type Payment, type PaymentRef } from './types.ts';

// The operator's word in place of the node's, for a send about which the node can never say anything (its history is lost).
// By the same commands as a node's answer, so that money, state, events and job end together.

/** What an operator knows of a stuck send from the node itself. */
export type Verdict = { settled: { preimage: string; fee_msats: bigint } } | 'failed';

/**
 * Ends a dispatched Lightning send by an operator's word. Refuses a preimage that is not the payment's
 * and a fee above the cap. Throws with the reason; the payment then stays as it was.
 */
export async function resolvePayment(
  engine: Pick<Engine, 'writer'>,
  ref: PaymentRef,
  verdict: Verdict,
): Promise<Payment> {
  if (verdict === 'failed') {
    const fail = failSendCommand(ref, sendFailed('upstream_failure', 'ended by the operator'), [
      'dispatched',
    ]);
    return engine.writer.advance({
      ...fail,
      decide(work) {
        // Its signed transaction is out and may confirm at any time.
        if (work.payment(ref)?.payment_hash === null)
          throw new Error('an on-chain send ends by the chain only');
        return fail.decide(work);
      },
    });
  }
  const { preimage } = verdict.settled;
  if (!/^[0-9a-f]{64}$/.test(preimage)) throw new Error('a preimage is 64 lower-case hex digits');
  const hash = createHash('sha256').update(Buffer.from(preimage, 'hex')).digest('hex');
  const settle = settleSendCommand(ref, verdict.settled);
  return engine.writer.advance({
    ...settle,
    decide(work) {
      const payment = work.payment(ref);
      if (payment?.payment_hash !== hash) throw new Error('the preimage does not belong to this payment');
      if (verdict.settled.fee_msats > (payment.max_fee ?? 0n))
        throw new Error('the fee is above the payment’s cap');
      return settle.decide(work);
    },
  });
}
