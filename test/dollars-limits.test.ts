import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Shown } from './actor.ts';
import { dollars } from './dollars.ts';
import { openServer } from './setup.ts';
import { allowTreasury, checkSend, setPolicies } from './tenant.ts';

const { server, me } = await openServer();
const my = dollars(server, me);
// 1 cent is 1,000 sats.
await my.setRate('100000e0');
await my.fund(100_000);

const MSATS = 5_000_000;
/** The request to pay an outside invoice from dollars, without its quote. */
async function fromDollars() {
  const { payment_request } = await me.outsideInvoice({ amount_msats: MSATS });
  const { wallet_id } = my;
  return me.sendBody({ payment_request, amount: my.btc(MSATS) }, { wallet_id, currency: 'usd' });
}
const quoted = async <B extends object>(body: B) => ({
  ...body,
  quote_id: await my.quote(my.btc(MSATS), 'usd'),
});
const refusal = async (body: object): Promise<[number, string]> => {
  const answer = await me.create(body);
  return [answer.status, (answer.body as { error: { type: string } }).error.type];
};

test('a check from dollars needs no quote; the payment that it becomes brings its own', async () => {
  const body = await fromDollars();
  await checkSend(server, body);
  assert.equal((await me.get(body.id)).status, 'approved');
  assert.deepEqual(await refusal(body), [400, 'quote_required']);
  assert.equal((await me.ended(await me.accept(await quoted(body)))).status, 'completed');
  assert.deepEqual(await me.history(body.id), ['requested', 'approved', 'held', 'dispatched', 'completed']);
});

test('a check that names a quote uses it up, and cannot be paid: its rate is not held', async () => {
  const body = await quoted(await fromDollars());
  await checkSend(server, body);
  assert.equal((await me.get(body.id)).status, 'approved');
  assert.notEqual((await my.readQuote(body.quote_id)).consumed_at, null);
  const { quote_id, ...without } = body;
  for (const request of [body, await quoted(without)])
    assert.notEqual((await me.create(request)).status, 202, 'neither with that quote nor with another');
  const other = { ...(await fromDollars()), quote_id };
  assert.deepEqual(await refusal(other), [400, 'invalid_quote']);
});

test('limits are of bitcoin on the rail, whatever currency the wallet keeps', async () => {
  const { wallet_id } = my;
  const pay = async (): Promise<Shown> => me.ended(await me.accept(await quoted(await fromDollars())));
  await setPolicies(server, wallet_id, { max_payment_size_sats: MSATS / 1000 - 1 });
  assert.equal((await pay()).error?.type, 'rejected');
  // 6 cents are 6,000 sats, above; 4 cents are below.
  const large = await my.receive(6);
  assert.deepEqual([large.status, large.error?.code], ['failed', 'rejected']);
  assert.equal((await my.receive(4)).status, 'receiving');
  await setPolicies(server, wallet_id, { max_payment_size_sats: MSATS / 1000 });
  assert.equal((await pay()).status, 'completed');
  await setPolicies(server, wallet_id, { max_payment_size_sats: null, send_volume_limit_sats: 15_000 });
  // 5,000 sats from the test before, 5,000 from above.
  assert.equal((await pay()).status, 'completed');
  assert.equal((await pay()).error?.type, 'rejected');
  await setPolicies(server, wallet_id, { send_volume_limit_sats: null });
});

test('a treasury movement bears no processing fee where any other payment does', async () => {
  await allowTreasury(server);
  const wallet_id = await me.newWallet(10_000_000);
  await setPolicies(server, wallet_id, {
    processing_fee: { send_basis_points: 100, receive_basis_points: 100 },
  });
  const { payment_request } = await me.outsideInvoice({ amount_msats: 10_000, fee_msats: 7 });
  const body = me.sendBody({ payment_request }, { wallet_id });
  const answer = await server.client.request('POST', `${me.base}/treasury_movements`, { body });
  assert.equal(answer.status, 202, answer.text);
  const moved = await me.ended(body.id);
  assert.equal(moved.data.fees?.amount, 7);
  assert.ok(!('processing_fee' in moved));
  const other = await me.outsideInvoice({ amount_msats: 10_000, fee_msats: 7 });
  const paid = await me.send({ payment_request: other.payment_request }, { wallet_id });
  assert.equal(paid.data.fees?.amount, 107);
});

test('the fee that a check approved is the fee of its payment', async () => {
  const wallet_id = await me.newWallet(10_000_000);
  const rates = (send_basis_points: number) => ({
    processing_fee: { send_basis_points, receive_basis_points: 0 },
  });
  await setPolicies(server, wallet_id, rates(100));
  const { payment_request } = await me.outsideInvoice({ amount_msats: 10_000 });
  const body = me.sendBody({ payment_request }, { wallet_id });
  await checkSend(server, body);
  await setPolicies(server, wallet_id, rates(500));
  assert.equal((await me.ended(await me.accept(body))).data.fees?.amount, 100);
});
