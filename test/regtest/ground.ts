import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { auditClean, type TestServer } from '../fixtures.ts';
import { driftOf, realActor, startPlace } from './fixture.ts';
import { startNetwork, tools, type RegtestNetwork } from './network.ts';
import { eventually } from '../wait.ts';

const found = await tools;
/** Why there is no network on this machine, or false. */
export const skip = 'missing' in found ? found.missing : false;

const FUNDS_MSATS = 1_500_000_000;

async function attemptsOf({ ours }: RegtestNetwork, payment_hash: string): Promise<number> {
  return (await ours.payments())
    .filter((payment) => payment.payment_hash === payment_hash)
    .flatMap(({ htlcs }) => htlcs.filter(({ status }) => status === 'SUCCEEDED')).length;
}

function heldInvoice({ carol }: RegtestNetwork, amount_msats: bigint) {
  const preimage = randomBytes(32);
  return carol.holdInvoice(preimage, createHash('sha256').update(preimage).digest(), amount_msats);
}

/**
 * What tests of faults stand on: one network and one database for the file, and for every test a server process
 * that it may kill.
 */
export function createGround() {
  let net: RegtestNetwork;
  let place: Awaited<ReturnType<typeof startPlace>>;
  let server: TestServer;
  let me: ReturnType<typeof realActor>;

  async function restart(): Promise<void> {
    server = await place.start();
    me = realActor(server, net);
  }

  before(async () => {
    if (skip !== false) return;
    net = await startNetwork();
    place = await startPlace(net);
    await restart();
    await me.fund(FUNDS_MSATS);
    await place.kill('SIGTERM');
  });
  after(async () => {
    if (skip !== false) return;
    await place.end();
    await net.stop();
  });
  beforeEach(async () => {
    if (skip === false) await restart();
  });
  afterEach(async () => {
    if (skip !== false) return;
    net.link.mend();
    net.link.reset();
    await place.kill('SIGTERM');
  });

  return {
    get net() {
      return net;
    },
    get place() {
      return place;
    },
    get server() {
      return server;
    },
    get me() {
      return me;
    },
    /** A test on the network; skipped, with the reason, where there is none. */
    fault: (name: string, work: () => Promise<void>): void => void test(name, { skip }, work),
    restart,
    /** Nothing moves: node and ledger agree to the msat, and so do all sums. */
    async atRest(): Promise<void> {
      await eventually(async () => assert.equal(await driftOf(server), 0n), 30_000, 200);
      await auditClean(place.db);
    },
    /** A send that reaches carol and is held there. */
    async heldSend(amount_msats = 20_000_000n) {
      const held = await this.heldInvoice(amount_msats);
      const id = await me.accept(me.sendBody({ payment_request: held.payment_request }));
      await this.acceptedByCarol(held.payment_hash);
      return { id, ...held };
    },
    heldInvoice: (amount_msats: bigint) => heldInvoice(net, amount_msats),
    acceptedByCarol: (payment_hash: string): Promise<void> =>
      eventually(async () => assert.equal(await net.carol.invoiceState(payment_hash), 'ACCEPTED')),
    /** How many payments of a hash our node made. */
    attemptsOf: (payment_hash: string) => attemptsOf(net, payment_hash),
  };
}

/** A send whose call is held by the link, bytes and all; the server is killed before it could be answered. */
export async function lostCall(
  { net, me, place }: ReturnType<typeof createGround>,
  before_it: () => Promise<unknown> = () => Promise.resolve(),
) {
  const invoice = await net.carol.invoice({ amount_msats: 10_000_000n });
  await before_it();
  net.link.hold();
  const id = await me.accept(me.sendBody({ payment_request: invoice.payment_request }));
  await eventually(async () => {
    const [row] = await place.db.query('SELECT 1 FROM payments WHERE id = $1 AND state = $2', [
      id,
      'dispatched',
    ]);
    assert.ok(row);
  });
  // The state is committed before the call: let the call reach the link.
  await new Promise((done) => setTimeout(done, 200));
  await place.kill();
  return { id, ...invoice };
}
