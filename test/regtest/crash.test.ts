import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { startTestServer } from '../fixtures.ts';
import { field, forgeInvoice } from '../forge.ts';
import { holdPayment, holdWallet, ready, realActor, someoneWaits } from './fixture.ts';
import { createGround } from './ground.ts';
import { eventually } from '../wait.ts';

// kill -9 and a broken link at each step of a payment, one step at a time; two servers on one node; the clock.
const ground = createGround();
const { fault, restart, atRest, attemptsOf } = ground;
const HELD_MSATS = 20_000_000;
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** The server is killed and another one comes. */
async function crash(): Promise<void> {
  await ground.place.kill();
  await restart();
}

const wallet = () => ground.place.credentials.wallet_id;

/** A request that stands in the server, and is still unanswered. */
async function standing(answer: Promise<unknown>): Promise<void> {
  const first = await Promise.race([answer.then(() => 'answered'), pause(500).then(() => 'standing')]);
  assert.equal(first, 'standing');
}

fault('killed before the commit of the hold: never accepted, nothing held, and the id is free', async () => {
  const { total } = await ground.me.balance();
  const invoice = await ground.net.carol.invoice({ amount_msats: 1_000_000n });
  const body = ground.me.sendBody({ payment_request: invoice.payment_request });
  const lock = await holdWallet(ground.place.db, wallet());
  const lost = ground.me.create(body).catch(() => null);
  await standing(lost);
  await ground.place.kill();
  assert.equal(await lost, null, 'nobody said 202');
  await lock.free();
  await restart();
  assert.equal(await ground.me.find(body.id), null);
  assert.deepEqual([(await ground.me.balance()).total, (await ground.me.balance()).holds], [total, 0]);
  assert.equal(await attemptsOf(invoice.payment_hash), 0);
  assert.equal((await ground.me.ended(await ground.me.accept(body))).status, 'completed');
  await atRest();
});

fault('killed after the commit of the hold, before the call: sent once by the next server', async () => {
  const invoice = await ground.net.carol.invoice({ amount_msats: 1_000_000n });
  ground.net.link.cut();
  const id = await ground.me.accept(ground.me.sendBody({ payment_request: invoice.payment_request }));
  await ground.place.kill();
  ground.net.link.mend();
  await restart();
  assert.equal((await ground.me.ended(id)).status, 'completed');
  assert.equal(await attemptsOf(invoice.payment_hash), 1);
  await atRest();
});

fault('while the commit before the call cannot be made, the node is not called', async () => {
  const invoice = await ground.net.carol.invoice({ amount_msats: 1_000_000n });
  ground.net.link.cut();
  const id = await ground.me.accept(ground.me.sendBody({ payment_request: invoice.payment_request }));
  const lock = await holdPayment(ground.place.db, id);
  ground.net.link.mend();
  await someoneWaits(ground.place.db, 30_000);
  await pause(500);
  assert.equal(await attemptsOf(invoice.payment_hash), 0);
  assert.equal(await ground.net.carol.invoiceState(invoice.payment_hash), 'OPEN');
  await lock.free();
  assert.equal((await ground.me.ended(id)).status, 'completed');
  await atRest();
});

fault('killed after the call: the payment ends as the node says, and no second call is made', async () => {
  const held = await ground.heldSend();
  await crash();
  assert.deepEqual(
    [(await ground.me.get(held.id)).status, (await ground.me.balance()).holds],
    ['approved', 1],
  );
  await held.settle();
  assert.equal((await ground.me.ended(held.id)).status, 'completed');
  assert.equal(await attemptsOf(held.payment_hash), 1);
  await atRest();
});

fault("killed between the node's answer and the commit that settles: captured once", async () => {
  const { total } = await ground.me.balance();
  const held = await ground.heldSend();
  const lock = await holdWallet(ground.place.db, wallet());
  await held.settle();
  await eventually(async () => assert.equal(await attemptsOf(held.payment_hash), 1));
  await pause(500);
  assert.equal((await ground.me.get(held.id)).status, 'approved', 'the settlement waits for the wallet');
  await ground.place.kill();
  await lock.free();
  await restart();
  const sent = await ground.me.ended(held.id);
  assert.equal(sent.status, 'completed');
  const cost = HELD_MSATS + (sent.data.fees?.amount ?? 0);
  assert.equal((await ground.me.balance()).total, total - cost);
  await crash();
  assert.equal((await ground.me.balance()).total, total - cost, 'and after the commit nothing happens again');
  await atRest();
});

fault('killed at each step of a receive: one invoice, credited once', async () => {
  const { total } = await ground.me.balance();
  // Accepted, and the node cannot be asked for the invoice.
  ground.net.link.cut();
  const id = await ground.me.accept({
    id: randomUUID(),
    wallet_id: wallet(),
    payment_kind: 'bolt11',
    amount: { currency: 'btc', amount: 700_000 },
  } as { id: string });
  await ground.place.kill();
  ground.net.link.mend();
  await restart();
  const receive = await ground.me.payable(id);
  assert.equal(receive.status, 'receiving');
  // Paid, and the credit waits for the wallet.
  const lock = await holdWallet(ground.place.db, wallet());
  assert.equal((await ground.net.carol.pay(receive.data.payment_request ?? '')).status, 'SUCCEEDED');
  await pause(500);
  assert.equal((await ground.me.get(id)).status, 'receiving');
  await ground.place.kill();
  await lock.free();
  await restart();
  assert.equal((await ground.me.ended(id)).status, 'completed');
  await crash();
  assert.equal((await ground.me.balance()).total, total + 700_000);
  await atRest();
});

/** What a link can do to calls and their answers, for how long, and whether nothing is heard meanwhile. */
const LINKS: Record<string, { breakIt(): void; for_ms: number; deaf: boolean }> = {
  reset: { breakIt: () => ground.net.link.reset(), for_ms: 0, deaf: false },
  cut: { breakIt: () => ground.net.link.cut(), for_ms: 1500, deaf: true },
  'black-holed past every timeout': {
    breakIt: () => {
      ground.net.link.hold();
      ground.net.link.holdAnswers();
    },
    for_ms: 17_000,
    deaf: true,
  },
  'slower than a ping': { breakIt: () => ground.net.link.delay(2500), for_ms: 6000, deaf: false },
};

for (const [name, { breakIt, for_ms, deaf }] of Object.entries(LINKS)) {
  fault(
    `threat 3: the link ${name} with sends that are made, in flight and settled just then: each is paid once`,
    async () => {
      const { total } = await ground.me.balance();
      const flying = await ground.heldSend(BigInt(HELD_MSATS));
      const settled = await ground.heldSend(BigInt(HELD_MSATS));
      const held = await ground.heldInvoice(BigInt(HELD_MSATS));
      breakIt();
      const broken = pause(for_ms);
      const id = await ground.me.accept(ground.me.sendBody({ payment_request: held.payment_request }));
      const made = { id, ...held };
      await Promise.all([settled.settle(), broken]);
      if (deaf) {
        for (const one of [made, flying, settled]) {
          assert.equal((await ground.me.get(one.id)).status, 'approved', 'nothing is guessed');
        }
        assert.equal((await ground.me.balance()).holds, 3);
      }
      ground.net.link.mend();
      await ground.acceptedByCarol(made.payment_hash);
      await Promise.all([made.settle(), flying.settle()]);
      let cost = 0;
      for (const [point, one] of Object.entries({ made, flying, settled })) {
        const sent = await ground.me.ended(one.id);
        assert.equal(sent.status, 'completed', `${point}: ${JSON.stringify(sent.error)}`);
        assert.equal(await attemptsOf(one.payment_hash), 1, point);
        cost += HELD_MSATS + (sent.data.fees?.amount ?? 0);
      }
      assert.equal((await ground.me.balance()).total, total - cost);
      await atRest();
    },
  );
}

fault(
  'threat 1: an invoice of the network with a second payment hash is refused before any node sees it',
  async () => {
    const { payment_request, payment_hash } = await ground.net.carol.invoice({ amount_msats: 1_000_000n });
    const forged = forgeInvoice(payment_request, randomBytes(32), (words) => [...words, ...field('p', 52)]);
    const answer = await ground.me.create(ground.me.sendBody({ payment_request: forged }));
    assert.equal(answer.status, 400, answer.text);
    assert.equal(await attemptsOf(payment_hash), 0);
  },
);

/** A second server on the same database and node. */
async function withSecond(
  work: (other: ReturnType<typeof realActor>, kill: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const spawned = await ground.place.spawn();
  const through = ground.place.through(spawned);
  try {
    await ready(through);
    await work(realActor(through, ground.net), () => spawned.kill('SIGKILL'));
  } finally {
    await spawned.kill('SIGKILL');
  }
}

fault(
  'threat 2: of 30 sends of the whole balance over two servers exactly one reaches the node',
  async () => {
    const { available } = await ground.me.balance();
    const held = await Promise.all(
      Array.from({ length: 30 }, () => ground.heldInvoice(BigInt(available - 2_000_000))),
    );
    await withSecond(async (other) => {
      const ids = await Promise.all(
        held.map(({ payment_request }, index) => {
          const client = index % 2 === 0 ? ground.me : other;
          return client.accept(
            client.sendBody({ payment_request, max_fee: { currency: 'btc', amount: 2_000_000 } }),
          );
        }),
      );
      const shown = await Promise.all(ids.map((id) => ground.me.get(id)));
      assert.equal(shown.filter(({ error }) => error?.code === 'insufficient_funds').length, 29);
      const winner = shown.findIndex(({ error }) => error === null);
      await ground.acceptedByCarol(held[winner]?.payment_hash ?? '');
      await held[winner]?.cancel();
      assert.equal((await ground.me.ended(ids[winner] ?? '')).status, 'failed');
    });
    for (const { payment_hash, cancel } of held) {
      assert.notEqual(await ground.net.carol.invoiceState(payment_hash), 'ACCEPTED');
      await cancel().catch(() => {});
    }
    assert.deepEqual((await ground.me.balance()).available, available);
    await atRest();
  },
);

fault(
  'threat 7: an invoice paid inside and from outside at once is paid by exactly one of them',
  async () => {
    const shop = await ground.me.newWallet();
    for (let round = 1; round <= 10; round += 1) {
      const receive = await ground.me.receive({
        wallet_id: shop,
        amount: { currency: 'btc', amount: 10_000 },
      });
      const payment_request = receive.data.payment_request ?? '';
      const [inside, outside] = await Promise.all([
        ground.me.send({ payment_request }),
        ground.net.carol.pay(payment_request),
      ]);
      assert.equal((await ground.me.ended(receive.id)).status, 'completed');
      assert.notEqual(inside.status === 'completed', outside.status === 'SUCCEEDED', 'one of the two');
      assert.equal((await ground.me.balance(shop)).total, round * 10_000);
    }
    await atRest();
  },
);

fault(
  'two servers on one database and node: either is killed under load, and each event counts once',
  async () => {
    const { total } = await ground.me.balance();
    let cost = 0;
    await withSecond(async (other, kill) => {
      const sends: string[] = [];
      const receives: string[] = [];
      const work = Array.from({ length: 24 }, async (_, index) => {
        const client = index % 2 === 0 ? ground.me : other;
        const invoice = await ground.net.carol.invoice({ amount_msats: 100_000n });
        const body = client.sendBody({ payment_request: invoice.payment_request });
        if ((await client.create(body).catch(() => null))?.status === 202) sends.push(body.id);
        const receive = await client
          .receive({ amount: { currency: 'btc', amount: 50_000 } })
          .catch(() => null);
        if (!receive) return;
        await ground.net.carol.pay(receive.data.payment_request ?? '');
        receives.push(receive.id);
      });
      await pause(700);
      await kill();
      await Promise.all(work);
      await withSecond(async (third) => {
        await ground.place.kill();
        for (const id of sends) {
          const { status, data } = await third.ended(id);
          if (status === 'completed') cost += 100_000 + (data.fees?.amount ?? 0);
        }
        for (const id of receives) assert.equal((await third.ended(id)).status, 'completed');
        cost -= receives.length * 50_000;
      });
      assert.ok(
        sends.length > 5 && receives.length > 5,
        `${sends.length} sends, ${receives.length} receives`,
      );
    });
    await restart();
    // A receive whose answer was lost with its server may have been paid, too: the audit and the drift know.
    assert.equal((await ground.me.balance()).total, total - cost);
    await atRest();
  },
);

fault('the clock an hour ahead or behind: what was paid at the node is credited, never expired', async () => {
  await ground.place.kill();
  const skew = { ms: 0 };
  const clock = { now: () => Date.now() + skew.ms };
  const server = await startTestServer({ COULOMB_NODES_FILE: ground.net.nodes_file }, clock, 'testnet3');
  try {
    await ready(server);
    const me = realActor(server, ground.net);
    let expected = 0;
    for (const ms of [3_600_000, -3_600_000]) {
      skew.ms = 0;
      const receive = await me.receive({ expiration: 600 });
      ground.net.link.cut();
      assert.equal((await ground.net.carol.pay(receive.data.payment_request ?? '')).status, 'SUCCEEDED');
      skew.ms = ms;
      await pause(2000);
      assert.equal((await me.get(receive.id)).status, 'receiving');
      ground.net.link.mend();
      assert.equal((await me.ended(receive.id)).status, 'completed');
      expected += 150_000;
      assert.equal((await me.balance()).total, expected);
      // Sends under the moved clock: their deadline at the node is not of this clock.
      const sent = await me.send({
        payment_request: (await ground.net.carol.invoice({ amount_msats: 1000n, expiry: 10_800 }))
          .payment_request,
      });
      assert.equal(sent.status, 'completed', JSON.stringify(sent.error));
      expected -= 1000 + (sent.data.fees?.amount ?? 0);
    }
  } finally {
    await server.stop();
  }
});
