import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { createGround, skip } from './ground.ts';

// kill -9 at random, again and again, with many payments in flight. COULOMB_KILL_ROUNDS=50 COULOMB_KILL_IN_FLIGHT=200
// is the long run; one channel carries 483 at most.
const ROUNDS = Number(process.env['COULOMB_KILL_ROUNDS'] ?? 3);
const IN_FLIGHT = Number(process.env['COULOMB_KILL_IN_FLIGHT'] ?? 60);
const SENDS = 30;
const RECEIVES = 10;
/** Of those that the payee holds, so many are settled or cancelled in each round. */
const ENDED = 20;
const MAX_PAUSE_MS = 1200;

const ground = createGround();

interface Tried {
  id: string;
  payment_hash: string;
}
interface Held extends Tried {
  settle(): Promise<unknown>;
  cancel(): Promise<unknown>;
}
/** Posts a send; the answer may be lost with its server, and what became of it is asked later. */
async function post(payment_request: string, payment_hash: string): Promise<Tried> {
  const body = ground.me.sendBody({ payment_request });
  await ground.me.create(body).catch(() => null);
  return { id: body.id, payment_hash };
}

async function plainSend(): Promise<Tried> {
  const { payment_request, payment_hash } = await ground.net.carol.invoice({ amount_msats: 200_000n });
  return post(payment_request, payment_hash);
}

async function heldSend(): Promise<Held> {
  const held = await ground.heldInvoice(1_000_000n);
  return { ...held, ...(await post(held.payment_request, held.payment_hash)) };
}

/** Paid from outside as soon as it can be; whatever is lost with the server, the payer does not care. */
async function receive(paid: Set<string>): Promise<void> {
  const made = await ground.me.receive({ id: randomUUID(), amount: { currency: 'btc', amount: 200_000 } });
  paid.add(made.id);
  await ground.net.carol.pay(made.data.payment_request ?? '');
}

async function inFlight(): Promise<number> {
  const [row] = await ground.place.db.query<{ count: bigint }>(
    `SELECT count(*) AS count FROM jobs j JOIN payments p ON p.organization_id = j.organization_id
       AND p.environment_id = j.environment_id AND p.id = j.payment_id
     WHERE p.direction = 'send'`,
  );
  return Number(row?.count ?? 0);
}

/** All sends that were tried, against the node, the payee and what was accepted. */
async function sendsAreTrue(sends: readonly Tried[]): Promise<Map<string, number>> {
  const ends = new Map<string, number>();
  const shown = new Map<string, string>();
  for (const { id } of sends) {
    const found = await ground.me.find(id);
    const { status } = found ? await ground.me.ended(id) : { status: 'never accepted' };
    shown.set(id, status);
    ends.set(status, (ends.get(status) ?? 0) + 1);
  }
  const paid = (await ground.net.ours.payments())
    .filter(({ status }) => status === 'SUCCEEDED')
    .map((payment) => payment.payment_hash);
  assert.equal(new Set(paid).size, paid.length, 'no hash was paid twice');
  for (const { id, payment_hash } of sends) {
    const completed = shown.get(id) === 'completed';
    assert.equal(completed, paid.includes(payment_hash), `${id} ${shown.get(id)}: as the node says`);
    const settled = (await ground.net.carol.invoiceState(payment_hash)) === 'SETTLED';
    assert.equal(completed, settled, `${id} ${shown.get(id)}: as the payee says`);
  }
  return ends;
}

test(
  'threat 4: a server killed -9 with payments in flight loses nothing: each ends as the node says',
  { skip },
  async (t) => {
    const sends: Tried[] = [];
    const paid = new Set<string>();
    const held: Held[] = [];
    const counts: number[] = [];
    const background: Promise<unknown>[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const missing = Math.max(0, IN_FLIGHT - SENDS - held.length);
      const more = await Promise.all(Array.from({ length: missing }, heldSend));
      held.push(...more);
      sends.push(...more);
      const ending = held.splice(0, ENDED);
      background.push(
        Promise.allSettled(
          ending.map(async (one) => {
            await new Promise((done) => setTimeout(done, randomInt(MAX_PAUSE_MS)));
            // One that has not arrived at the payee is nothing to settle: it fails there once it is cancelled.
            if (randomInt(2) === 0) await one.settle().catch(() => one.cancel());
            else await one.cancel();
          }),
        ),
      );
      // What its server takes with it is asked for later.
      const work = Promise.allSettled([
        ...Array.from({ length: SENDS }, async () => sends.push(await plainSend())),
        ...Array.from({ length: RECEIVES }, () => receive(paid)),
      ]);
      await new Promise((done) => setTimeout(done, randomInt(50, MAX_PAUSE_MS)));
      counts.push(await inFlight());
      await ground.place.kill();
      await work;
      await ground.restart();
    }
    await Promise.all([...background, ...held.map((one) => one.cancel())]);
    const ends = await sendsAreTrue(sends);
    for (const id of paid) assert.equal((await ground.me.ended(id)).status, 'completed');
    await ground.atRest();
    const least = Math.min(...counts);
    t.diagnostic(
      `${ROUNDS} kills, ${least} to ${Math.max(...counts)} sends in flight at each; ${sends.length} sends tried ` +
        `(${[...ends].map(([end, count]) => `${count} ${end}`).join(', ')}), ${paid.size} receives paid; drift 0, audit clean`,
    );
    assert.ok(least >= IN_FLIGHT / 2, `${least} in flight at a kill`);
  },
);
