import assert from 'node:assert/strict';
import { holdCount, someoneWaits } from './fixture.ts';
import { createGround, lostCall } from './ground.ts';
import { eventually } from '../wait.ts';

// Calls that were on their way when their server died: they may still arrive, and nobody knows when.
const ground = createGround();
const { fault, restart, atRest, attemptsOf } = ground;

fault('a call that the link delivers after a restart: paid once, never released before', async () => {
  const { total } = await ground.me.balance();
  const { id, payment_hash } = await lostCall(ground);
  await restart();
  assert.deepEqual([(await ground.me.get(id)).status, (await ground.me.balance()).holds], ['approved', 1]);
  ground.net.link.mend();
  const sent = await ground.me.ended(id);
  assert.equal(sent.status, 'completed', JSON.stringify(sent.error));
  assert.equal(await attemptsOf(payment_hash), 1);
  assert.equal((await ground.me.balance()).total, total - 10_000_000 - (sent.data.fees?.amount ?? 0));
  await atRest();
});

fault(
  'a call that another server made counts anew: nobody repeats it while it can still arrive',
  async () => {
    const { id, payment_hash } = await lostCall(ground);
    await restart();
    // When this server would call again, another one just writes down that it does; its call is on its way.
    const other = await holdCount(ground.place.db, id);
    await someoneWaits(ground.place.db, 60_000);
    await other.free();
    await new Promise((done) => setTimeout(done, 18_000));
    assert.equal(
      await ground.net.carol.invoiceState(payment_hash),
      'OPEN',
      'no second call beside the first',
    );
    assert.equal((await ground.me.ended(id)).status, 'completed');
    assert.equal(await attemptsOf(payment_hash), 1);
    await atRest();
  },
);

fault('a call that the link delivers after the send has failed is refused by the node', async () => {
  const { total } = await ground.me.balance();
  const { id, payment_hash } = await lostCall(ground, () => ground.net.carol.kill());
  await restart();
  const failed = await ground.me.ended(id);
  assert.deepEqual([failed.status, (await ground.me.balance()).holds], ['failed', 0]);
  await ground.net.carol.start();
  await ground.net.carol.connect(ground.net.bob);
  await eventually(async () => {
    assert.equal((await ground.net.bob.channels()).filter(({ active }) => active).length, 3);
  });
  await ground.net.ours.ask('resetMissionControl', {}, 'router');
  ground.net.link.mend();
  // Were it taken, it would be paid within a second: the way to carol works again.
  await new Promise((done) => setTimeout(done, 5000));
  assert.equal(await ground.net.carol.invoiceState(payment_hash), 'OPEN');
  assert.equal((await ground.me.balance()).total, total);
  await atRest();
});
