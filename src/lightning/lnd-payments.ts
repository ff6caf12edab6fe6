import { status } from '@grpc/grpc-js';
import type { PayRequest, SendFailure, SendOutcome } from './node.ts';
import { bytesOf, failureOf, inTurns, isLinkFailure, type LndClient, type LndFailure } from './lnd-client.ts';
import { withDeadline } from './lnd-macaroon.ts';

// Sends over Lightning, on lnd. Only its word `SUCCEEDED` or `FAILED`, or a refusal of the call for a payment that it does
// not have, is an end. Whatever the link does to a call or its answer is `unknown`, never `failed` (threat 3).

interface LndPayment {
  payment_hash: string;
  payment_preimage: string;
  status: 'IN_FLIGHT' | 'INITIATED' | 'SUCCEEDED' | 'FAILED' | 'UNKNOWN';
  fee_msat: string;
  failure_reason: string;
  payment_index: string;
}

/** A call to pay is refused by the node when it arrives later than this after it was made. */
export const CALL_DEADLINE_MS = 20_000;
// How long lnd looks for routes before it gives up; parts in flight are waited for however long they take.
const ROUTING_SECONDS = 60;
// As lnd splits a payment when it is not told.
const MAX_PARTS = 16;
const TRACKS_AT_ONCE = 16;
const TRACK_TIMEOUT_MS = 10_000;
const NOT_FOUND: number = status.NOT_FOUND;

const FAILURES: Record<string, [code: SendFailure, detail: string]> = {
  FAILURE_REASON_TIMEOUT: ['no_route', 'no route worked in time'],
  FAILURE_REASON_NO_ROUTE: ['no_route', 'no route within the fee cap'],
  FAILURE_REASON_ERROR: ['upstream_failure', 'the node failed'],
  FAILURE_REASON_INCORRECT_PAYMENT_DETAILS: [
    'invalid_bolt11_invoice',
    'the payee refuses the payment: unknown, paid or expired invoice',
  ],
  FAILURE_REASON_INSUFFICIENT_BALANCE: ['no_route', 'the node lacks outbound liquidity'],
  FAILURE_REASON_CANCELED: ['upstream_failure', 'cancelled at the node'],
};

function outcomeOf(payment: LndPayment): SendOutcome {
  const payment_index = BigInt(payment.payment_index);
  if (payment.status === 'SUCCEEDED') {
    return {
      state: 'settled',
      preimage: payment.payment_preimage,
      fee_msats: BigInt(payment.fee_msat),
      payment_index,
    };
  }
  if (payment.status !== 'FAILED') return { state: 'in_flight' };
  const [code, detail] = FAILURES[payment.failure_reason] ?? ['upstream_failure', payment.failure_reason];
  return { state: 'failed', code, detail, payment_index };
}

/** The node turned the call away before it looked at it, for a reason that passes: it is starting, or the macaroon expired. */
const NOT_TAKEN = /not yet ready|wallet locked|waiting to start|has expired|unavailable/i;

export interface LndPaymentsDeps {
  client: LndClient;
  macaroon: Buffer;
  /** How far the node's clock is ahead of ours, ms. */
  clockAhead(): number;
  /** Told of every payment index that the node names. */
  indexSeen(index: bigint): void;
}

/** Follows a stream to its last word; what the link loses stays unknown. */
function follow(
  { client, indexSeen }: LndPaymentsDeps,
  method: 'sendPaymentV2' | 'trackPaymentV2',
  request: object,
  until: 'first' | 'end',
  credential?: string,
): Promise<SendOutcome | LndFailure> {
  return new Promise((resolve) => {
    const stream = client.listen<LndPayment>('router', method, request, credential);
    const timer =
      until === 'first'
        ? setTimeout(() => finish({ state: 'unknown', detail: 'no answer in time' }), TRACK_TIMEOUT_MS)
        : null;
    const finish = (outcome: SendOutcome | LndFailure): void => {
      if (timer) clearTimeout(timer);
      resolve(outcome);
      // After its last word the node ends the stream by itself.
      if (until === 'first') stream.cancel();
    };
    stream.on('data', (payment) => {
      // Whatever becomes of the payment: by the highest index it is noticed that a history became shorter.
      indexSeen(BigInt(payment.payment_index));
      const outcome = outcomeOf(payment);
      if (until === 'first' || outcome.state !== 'in_flight') finish(outcome);
    });
    stream.on('error', (error) => finish(failureOf(error)));
    stream.on('end', () => finish({ state: 'unknown', detail: 'the stream ended before the payment' }));
  });
}

/** What the port asks about sends, on lnd. */
export function lndPayments(deps: LndPaymentsDeps) {
  const { client, macaroon, clockAhead, indexSeen } = deps;

  async function track(payment_hash: string): Promise<SendOutcome> {
    const told = await follow(deps, 'trackPaymentV2', { payment_hash: bytesOf(payment_hash) }, 'first');
    if ('state' in told) return told;
    if (told.code === NOT_FOUND) return { state: 'not_found' };
    return { state: 'unknown', detail: told.details };
  }

  async function pay(request: PayRequest): Promise<SendOutcome> {
    // Asked of the channel, without a call: one that is made while it is down may wait in it for the link.
    if (!client.connected()) return { state: 'not_sent', detail: 'the node is not connected' };
    const credential = withDeadline(macaroon, Date.now() + CALL_DEADLINE_MS + clockAhead()).toString('hex');
    const told = await follow(
      deps,
      'sendPaymentV2',
      {
        payment_request: request.payment_request,
        ...(request.amount_in_invoice ? {} : { amt_msat: request.amount_msats.toString() }),
        fee_limit_msat: request.max_fee_msats.toString(),
        timeout_seconds: ROUTING_SECONDS,
        max_parts: MAX_PARTS,
        allow_self_payment: true,
      },
      'end',
      credential,
    );
    return 'state' in told ? told : refused(request.payment_hash, told);
  }

  /** A call that ended in an error: the link's, the node's refusal, or a payment that exists already. */
  async function refused(payment_hash: string, failure: LndFailure): Promise<SendOutcome> {
    if (isLinkFailure(failure)) return { state: 'unknown', detail: failure.details };
    if (NOT_TAKEN.test(failure.details)) return { state: 'not_sent', detail: failure.details };
    if (/permission denied/i.test(failure.details)) {
      return { state: 'failed', code: 'node_permission_denied', detail: failure.details };
    }
    // lnd refuses a second payment of a hash, which is how a repeated call ends: the first one's state is the answer.
    const known = await track(payment_hash);
    // The node refused this call and knows no payment of the hash: nothing was sent.
    if (known.state !== 'not_found') return known;
    const code = /expired/.test(failure.details) ? 'invalid_bolt11_invoice' : 'upstream_failure';
    return { state: 'failed', code, detail: failure.details };
  }

  return {
    pay: (requests: readonly PayRequest[]) => requests.map(pay),
    lookupPayments: (hashes: readonly string[]) => inTurns(hashes, TRACKS_AT_ONCE, track),
    async paymentIndex(): Promise<bigint> {
      const answer = await client.ask<{ last_index_offset: string }>('default', 'listPayments', {
        include_incomplete: true,
        reversed: true,
        max_payments: '1',
        omit_hops: true,
      });
      const index = BigInt(answer.last_index_offset);
      indexSeen(index);
      return index;
    },
  };
}
