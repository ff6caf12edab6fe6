import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { hooks } from './hooks.ts';
import { openReceiver, openServer } from './setup.ts';

const { server, me } = await openServer();
const my = hooks(server.client, me.base);
const receiver = await openReceiver();

const told = (payment_id: string): string[] =>
  receiver.received.filter(({ data }) => data.id === payment_id).map(({ type, event }) => `${type}.${event}`);

test('a receive tells generated, succeeded and completed, in order, with the payment as the API shows it', async () => {
  const id = await my.register(receiver);
  const payment = await me.receive();
  await me.sandbox('payments', { payment_request: payment.data.payment_request });
  const shown = await me.ended(payment.id);
  await receiver.until(() => told(payment.id).length === 3, 'three events');
  assert.deepEqual(told(payment.id), ['receive.generated', 'receive.succeeded', 'receive.completed']);
  const mine = receiver.received.filter(({ data }) => data.id === payment.id);
  assert.deepEqual(mine[0]?.data, payment, 'generated shows what could be handed over');
  assert.deepEqual(mine[2]?.data, shown, 'completed shows the end');
  assert.ok(mine.every(({ webhook_id }) => webhook_id === id));
  assert.equal(new Set(mine.map(({ delivery_id }) => delivery_id)).size, 3);
  assert.deepEqual(receiver.refused, []);
});

test('sends tell succeeded or failed', async () => {
  await me.fund(1_000_000);
  const good = await me.outsideInvoice({ amount_msats: 10_000 });
  const bad = await me.outsideInvoice({ amount_msats: 10_000, behavior: 'fail' });
  const sent = await me.send({ payment_request: good.payment_request });
  const failed = await me.send({ payment_request: bad.payment_request });
  await receiver.until(() => told(sent.id).length + told(failed.id).length === 2, 'both ends');
  assert.deepEqual([...told(sent.id), ...told(failed.id)], ['send.succeeded', 'send.failed']);
});

test('a payment is told with the state that its transaction left, however late it is delivered', async () => {
  const id = await my.register(receiver);
  await my.call('POST', `${my.path}/${id}/stop`);
  const payment = await me.receive();
  await me.sandbox('payments', { payment_request: payment.data.payment_request });
  await me.ended(payment.id);
  assert.equal(receiver.received.filter(({ webhook_id }) => webhook_id === id).length, 0);
  await my.call('POST', `${my.path}/${id}/start`);
  const mine = () => receiver.received.filter((one) => one.webhook_id === id && one.data.id === payment.id);
  await receiver.until(() => mine().length === 3, 'what was queued');
  assert.deepEqual(
    mine().map(({ event, data }) => `${event} ${data.status}`),
    ['generated receiving', 'succeeded completed', 'completed completed'],
  );
  await my.call('DELETE', `${my.path}/${id}`);
  assert.equal((await my.get(id))['status'], 'deleted');
});

test('an attempt that fails is tried again with the same id and the same bytes', async () => {
  const id = await my.register(receiver, [{ test: 'created' }]);
  let count = 0;
  receiver.behave = (request, response) => {
    if (request.headers['x-voltage-webhook-id'] !== id) return false;
    count += 1;
    if (count > 1) return false;
    response.writeHead(503).end();
    return true;
  };
  const delivery_id = randomUUID();
  const payload = { type: 'test', detail: { event: 'created', data: 'hello' } };
  await my.call('POST', `${my.path}/${id}/test`, { delivery_id, payload });
  const first = await my.until(id, delivery_id, ({ attempt_count }) => attempt_count === 1);
  assert.equal(first.status, 'attempting');
  assert.equal(first.error_info?.code, 'http_server_error');
  const shown = await my.until(id, delivery_id, ({ status }) => status === 'succeeded');
  assert.equal(shown.attempt_count, 2);
  assert.equal(shown.error_info, null);
  receiver.behave = null;
  const [delivered] = receiver.received.filter((one) => one.delivery_id === delivery_id);
  assert.deepEqual(JSON.parse(delivered?.raw_body ?? ''), payload);
});

test('an on-chain receive is detected in the mempool, then credited; an expired one says so, and late money completes it', async () => {
  const amount = { currency: 'btc', amount: 1_000_000 };
  const payment = await me.receive({ payment_kind: 'onchain', amount });
  const parts = [400_000, 600_000];
  for (const amount_msats of parts)
    await me.sandbox('payments', { address: payment.data.address, amount_msats });
  await me.until(payment.id, ({ data }) => data.receipts?.length === 2);
  await me.sandbox('blocks', { count: 1 });
  await me.ended(payment.id);
  const each = (name: string) => told(payment.id).filter((event) => event === `receive.${name}`).length;
  // Two registrations hear of it by now: this one's first.
  const copies = new Set(
    receiver.received.filter(({ data }) => data.id === payment.id).map(({ webhook_id }) => webhook_id),
  ).size;
  await receiver.until(() => each('completed') === copies && each('succeeded') === 2 * copies, 'the end');
  assert.equal(each('detected'), 2 * copies);
  const late = await me.receive({ payment_kind: 'onchain', amount, expiration: 1 });
  await me.ended(late.id);
  await me.sandbox('payments', { address: late.data.address, amount_msats: 1_000_000 });
  await me.sandbox('blocks', { count: 1 });
  await me.until(late.id, ({ status }) => status === 'completed');
  await receiver.until(() => told(late.id).includes('receive.completed'), 'late money');
  const events = told(late.id).filter((event) => event !== 'receive.detected');
  assert.deepEqual(events, [
    'receive.generated',
    'receive.expired',
    'receive.succeeded',
    'receive.completed',
  ]);
});
