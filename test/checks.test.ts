import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { actor, type Shown } from './actor.ts';
import { spawnServer } from './fixtures.ts';
import { openServer } from './setup.ts';
import { allowTreasury, checkSend, newKey, setPolicies, through, withKey } from './tenant.ts';

const clock = { moved_ms: 0, now: () => Date.now() + clock.moved_ms };

const { server, me } = await openServer({}, clock);

const LIMIT_MSATS = 5_000_000;
const newWallet = () => me.newWallet(LIMIT_MSATS);
/** The request for a send to somebody outside, or for its check. */
async function sendTo(invoice: object, fields: object = {}, more: object = {}) {
  const { payment_request } = await me.outsideInvoice({ amount_msats: 10_000, ...invoice });
  const data: Record<string, unknown> = { payment_request, ...more };
  return { ...me.sendBody(data, fields), data };
}
/** A send that was approved by a check; answers the body that pays it. */
async function approved(fields: object = {}, invoice: object = {}, data: object = {}) {
  const body = await sendTo(invoice, fields, data);
  await checkSend(server, body);
  assert.equal((await me.get(body.id)).status, 'approved');
  return body;
}
async function exists(body: Record<string, unknown>, path = 'payments'): Promise<void> {
  const answer = await server.client.request('POST', `${me.base}/${path}`, { body });
  const { error } = answer.body as { error: { type: string; context: object } };
  assert.deepEqual(
    [answer.status, error.type, error.context],
    [409, 'payment_exists', { payment_id: body['id'] }],
    answer.text,
  );
}
async function listed(query: string): Promise<string[]> {
  const answer = await server.client.request('GET', `${me.base}/payments?${query}`);
  assert.equal(answer.status, 200, answer.text);
  return (answer.body as { items: Shown[] }).items.map(({ id }) => id);
}

describe('a check', () => {
  test('that passes is approved, and that is all: nothing is held, moved or left to do', async () => {
    const wallet_id = await newWallet();
    await setPolicies(server, wallet_id, { max_payment_size_sats: 10 });
    const { id } = await approved({ wallet_id, metadata: { order: '1' } });
    const shown = await me.get(id);
    assert.deepEqual([shown.direction, shown.error, shown.metadata], ['send', null, { order: '1' }]);
    assert.deepEqual(shown.data.outflows, []);
    assert.deepEqual(await me.history(id), ['requested', 'approved']);
    assert.deepEqual(await me.ledger(wallet_id), []);
    assert.deepEqual(await me.balance(wallet_id), { available: LIMIT_MSATS, total: 0, holds: 0 });
    assert.deepEqual(await server.db.query('SELECT FROM jobs WHERE payment_id = $1', [id]), []);
  });
  test('that a policy refuses is rejected, and cannot become a payment', async () => {
    const wallet_id = await newWallet();
    await setPolicies(server, wallet_id, { max_payment_size_sats: 9 });
    const body = await sendTo({}, { wallet_id });
    await checkSend(server, body);
    const shown = await me.get(body.id);
    assert.deepEqual([shown.status, shown.error?.type], ['failed', 'rejected']);
    assert.deepEqual(await me.history(body.id), ['requested', 'failed']);
    await exists(body);
  });
  test('judges by what was sent, and counts for nothing itself', async () => {
    const wallet_id = await newWallet();
    await setPolicies(server, wallet_id, { transactions_per_minute: 1, send_volume_limit_sats: 10 });
    for (let count = 0; count < 3; count += 1) await approved({ wallet_id });
    const sent = await sendTo({}, { wallet_id });
    assert.equal((await me.ended(await me.accept(sent))).status, 'completed');
    const late = await sendTo({}, { wallet_id });
    await checkSend(server, late);
    assert.equal((await me.get(late.id)).error?.type, 'rejected');
  });
  test('takes the same refusals as a send, and sends only', async () => {
    const check = (body: object) => server.client.request('POST', `${me.base}/payments/check`, { body });
    const typeOf = async (body: object) => {
      const { status, body: answer } = await check(body);
      return [status, (answer as { error: { type: string } }).error.type];
    };
    const body = await sendTo({});
    assert.deepEqual(await typeOf({ ...body, wallet_id: randomUUID() }), [400, 'invalid_payment']);
    assert.deepEqual(await typeOf({ ...body, data: { payment_request: 'lntbs1' } }), [
      400,
      'invalid_bolt11_payment_request',
    ]);
    const receive = { id: randomUUID(), wallet_id: server.credentials.wallet_id, payment_kind: 'bolt11' };
    assert.deepEqual(await typeOf({ ...receive, currency: 'btc' }), [422, 'invalid_data']);
    const receiver = withKey(server.client, await newKey(server.db, server.credentials, ['RECEIVE']));
    assert.equal((await receiver.request('POST', `${me.base}/payments/check`, { body })).status, 403);
  });
  test('has an id of its own: a payment or a check of that id is 409', async () => {
    const body = await approved();
    await exists(body, 'payments/check');
    const receive = await me.receive();
    await exists({ ...body, id: receive.id }, 'payments/check');
  });
  test('is found by every list that asks for it, on pages too', async () => {
    const wallet_id = await newWallet();
    const ids: string[] = [];
    for (let count = 0; count < 4; count += 1) ids.push((await approved({ wallet_id })).id);
    const stuck = await sendTo({ behavior: 'stuck' }, { wallet_id });
    ids.push(await me.accept(stuck));
    const own = `wallet_id=${wallet_id}`;
    for (const sort_key of ['created_at', 'updated_at']) {
      const sorted = `${own}&sort_key=${sort_key}&sort_order=ASC`;
      assert.deepEqual(await listed(`${sorted}&statuses[]=approved`), ids);
      assert.deepEqual(await listed(`${sorted}&statuses[]=approved&statuses[]=sending`), ids);
      assert.deepEqual(await listed(`${sorted}&statuses[]=approved&check_only=false`), [stuck.id]);
      assert.deepEqual(await listed(`${sorted}&statuses[]=approved&check_only=true`), ids.slice(0, 4));
      assert.deepEqual(await listed(`${sorted}&check_only=true&limit=2&offset=1`), ids.slice(1, 3));
      assert.deepEqual(await listed(`${sorted}&check_only=true&statuses[]=failed`), []);
      const seen: string[] = [];
      let cursor = '';
      do {
        const path = `${me.base}/payments?${sorted}&statuses[]=approved&pagination=cursor&limit=2${cursor}`;
        const page = (await server.client.request('GET', path)).body as {
          items: Shown[];
          next_cursor: string | null;
        };
        seen.push(...page.items.map(({ id }) => id));
        cursor = page.next_cursor === null ? '' : `&cursor=${page.next_cursor}`;
      } while (cursor !== '');
      assert.deepEqual(seen, ids);
    }
    const counted = await server.client.request(
      'GET',
      `${me.base}/payments?${own}&statuses[]=approved&limit=2`,
    );
    assert.equal((counted.body as { total: number }).total, 5);
  });
});

describe('promotion of an approved check', () => {
  test('the same request pays it, in the same history; a third one is 409', async () => {
    const wallet_id = await newWallet();
    const body = await approved({ wallet_id, metadata: { order: '7' } });
    const { created_at } = await me.get(body.id);
    assert.equal((await me.ended(await me.accept(body))).status, 'completed');
    const shown = await me.get(body.id);
    assert.deepEqual([shown.created_at, shown.metadata], [created_at, { order: '7' }]);
    assert.deepEqual(await me.history(body.id), ['requested', 'approved', 'held', 'dispatched', 'completed']);
    assert.deepEqual(await listed(`wallet_id=${wallet_id}&check_only=false`), [body.id]);
    assert.deepEqual(await listed(`wallet_id=${wallet_id}&check_only=true`), []);
    await exists(body);
    assert.deepEqual((await me.ledger(wallet_id)).map(({ type }) => type).reverse(), ['held', 'captured']);
  });
  test('works inside the deployment and on-chain', async () => {
    const wallet_id = await newWallet();
    const receive = await me.receive({
      wallet_id: await me.newWallet(),
      amount: { currency: 'btc', amount: 7 },
    });
    const inside = me.sendBody({ payment_request: receive.data.payment_request }, { wallet_id });
    await checkSend(server, inside);
    assert.equal((await me.ended(await me.accept(inside))).status, 'completed');
    assert.deepEqual(await me.history(inside.id), ['requested', 'approved', 'held', 'completed']);
    assert.equal((await me.ended(receive.id)).status, 'completed');
    const { address } = await me.sandbox<{ address: string }>('addresses');
    const amount = { currency: 'btc', amount: 600_000 };
    const onchain = me.sendBody({ address, amount }, { wallet_id, type: 'onchain' });
    await checkSend(server, onchain);
    await me.accept(onchain);
    // Whichever block comes after its broadcast.
    const done = await me.until(onchain.id, ({ status }) => {
      if (status === 'approved') void me.sandbox('blocks', { count: 1 });
      return status !== 'approved';
    });
    assert.equal(done.status, 'completed');
  });
  test('a request that asks for something else is 409, and the check can still be paid', async () => {
    const wallet_id = await newWallet();
    const max_fee = { currency: 'btc', amount: 700 };
    const body = await approved({ wallet_id }, {}, { max_fee });
    const other = await me.outsideInvoice({ amount_msats: 10_000 });
    await exists({ ...body, wallet_id: server.credentials.wallet_id });
    await exists({ ...body, wallet_id: randomUUID() });
    await exists({ ...body, data: { payment_request: other.payment_request } });
    await exists({ ...body, data: { ...body.data, max_fee: { currency: 'btc', amount: 701 } } });
    const { address } = await me.sandbox<{ address: string }>('addresses');
    const onchain = { address, amount: { currency: 'btc', amount: 10_000_000 } };
    await exists({ ...body, type: 'onchain', data: onchain });
    await exists({
      ...body,
      type: 'bip21',
      data: { address: `lightning:${String(body.data['payment_request'])}` },
    });
    const receive = { id: body.id, wallet_id, payment_kind: 'bolt11', currency: 'btc' };
    await exists(receive);
    const { max_fee: _omitted, ...data } = body.data;
    const without_fee = { ...body, data };
    assert.equal((await me.ended(await me.accept(without_fee))).status, 'completed');
    assert.equal((await me.get(body.id)).data.max_fee?.amount, 700, 'what is omitted is as it was approved');
  });
  test('an amount that the invoice leaves open must be the one that was checked', async () => {
    const body = await approved(
      {},
      { amount_msats: undefined },
      { amount: { currency: 'btc', amount: 5000 } },
    );
    await exists({ ...body, data: { ...body.data, amount: { currency: 'btc', amount: 5001 } } });
    await me.fund(10_000);
    assert.equal((await me.ended(await me.accept(body))).status, 'completed');
  });
  test('metadata given with the payment takes the place of that of the check', async () => {
    const wallet_id = await newWallet();
    const body = await approved({ wallet_id, metadata: { order: '1' } });
    const renamed = { ...body, metadata: { order: '2' } };
    await me.accept(renamed);
    assert.deepEqual((await me.ended(body.id)).metadata, { order: '2' });
    assert.deepEqual(await listed('metadata[order]=2'), [body.id]);
  });
});

describe('a promoted check', () => {
  test('is judged anew, since a check reserves nothing: by policies and by what is available', async () => {
    const wallet_id = await newWallet();
    const refused = await approved({ wallet_id });
    await setPolicies(server, wallet_id, { max_payment_size_sats: 9 });
    const rejected = await me.ended(await me.accept(refused));
    assert.equal(rejected.error?.type, 'rejected');
    assert.deepEqual(await me.history(refused.id), ['requested', 'approved', 'failed']);
    await exists(refused);
    const empty = await me.newWallet();
    const poor = await approved({ wallet_id: empty });
    assert.equal((await me.ended(await me.accept(poor))).error?.code, 'insufficient_funds');
    assert.deepEqual(await me.history(poor.id), ['requested', 'approved', 'failed']);
  });
  test('counts for velocity and volume from then on, not from the check', async () => {
    const wallet_id = await newWallet();
    const body = await approved({ wallet_id }, { expiry: 200_000 });
    clock.moved_ms += 25 * 3_600_000;
    await setPolicies(server, wallet_id, { transactions_per_minute: 1, send_volume_limit_sats: 15 });
    await me.accept(body);
    assert.equal((await me.ended(body.id)).status, 'completed');
    const rejected = async () => {
      const next = await me.ended(await me.accept(await sendTo({}, { wallet_id })));
      return next.error?.type === 'rejected';
    };
    assert.ok(await rejected());
    clock.moved_ms += 61_000;
    assert.ok(await rejected(), 'the volume is used up');
    await setPolicies(server, wallet_id, { send_volume_limit_sats: null });
    await setPolicies(server, wallet_id, { send_volume_limit_sats: 15 });
    assert.ok(await rejected(), 'also for a policy that is set afterwards');
    await setPolicies(server, wallet_id, { send_volume_limit_sats: 20 });
    assert.ok(!(await rejected()));
  });
  test('one that failed gives its volume back', async () => {
    const wallet_id = await newWallet();
    await setPolicies(server, wallet_id, { send_volume_limit_sats: 10 });
    const body = await approved({ wallet_id }, { behavior: 'fail' });
    assert.equal((await me.ended(await me.accept(body))).error?.type, 'send_failed');
    const next = await me.ended(await me.accept(await sendTo({}, { wallet_id })));
    assert.equal(next.status, 'completed');
  });
  test('whose invoice has expired is refused for that, and nothing is held', async () => {
    const body = await approved({}, { expiry: 60 });
    clock.moved_ms += 61_000;
    const answer = await me.create(body);
    const { error } = answer.body as { error: { type: string } };
    assert.deepEqual([answer.status, error.type], [400, 'invalid_bolt11_payment_request']);
    assert.deepEqual(await me.history(body.id), ['requested', 'approved']);
  });
  test('threat 19: promoted at the same time on two servers, each check pays once, and none beyond a limit', async () => {
    const wallet_id = await newWallet();
    const bodies = await Promise.all(Array.from({ length: 12 }, () => approved({ wallet_id })));
    await setPolicies(server, wallet_id, { transactions_per_minute: 5, send_volume_limit_sats: 10_000 });
    // Two processes whose clocks are not moved.
    const spawned = await Promise.all([spawnServer(server.database_url), spawnServer(server.database_url)]);
    try {
      const [here, there] = spawned.map((one) => actor(through(server, one)));
      assert.ok(here && there);
      const answers = await Promise.all(
        bodies.flatMap((body) => [here.create(body), there.create(body), here.create(body)]),
      );
      const statuses = answers.map(({ status }) => status);
      assert.equal(statuses.filter((status) => status === 202).length, bodies.length);
      assert.equal(statuses.filter((status) => status === 409).length, 2 * bodies.length);
      const ends = await Promise.all(bodies.map(({ id }) => me.ended(id)));
      assert.equal(ends.filter(({ status }) => status === 'completed').length, 5);
      assert.equal(ends.filter(({ error }) => error?.type === 'rejected').length, 7);
    } finally {
      await Promise.all(spawned.map((one) => one.kill('SIGTERM')));
    }
    const kinds = (await me.ledger(wallet_id)).map(({ type }) => type).sort();
    assert.deepEqual(kinds, [...Array<string>(5).fill('captured'), ...Array<string>(5).fill('held')]);
  });
});

describe('treasury movements', () => {
  const move = (body: object, as = server.client) =>
    as.request('POST', `${me.base}/treasury_movements`, { body });
  const refusal = async (body: object) => {
    const answer = await move(body);
    return [answer.status, (answer.body as { error: object }).error];
  };

  test('are refused until the operator has enabled them', async () => {
    const [status, error] = await refusal(await sendTo({}));
    const { type, code, context } = error as { type: string; code: string; context: object };
    assert.deepEqual(
      [status, type, code, context],
      [400, 'feature_flag_disabled', 'disabled', { feature: 'treasury' }],
    );
    await allowTreasury(server);
  });
  test('go both ways as payments of their own category, which lists tell apart', async () => {
    const wallet_id = await me.newWallet(LIMIT_MSATS);
    const receive = {
      id: randomUUID(),
      wallet_id,
      payment_kind: 'bolt11',
      amount: { currency: 'btc', amount: 50_000 },
      metadata: { external_id: 'treasury' },
    };
    assert.equal((await move(receive)).status, 202);
    const payable = await me.payable(receive.id);
    await me.sandbox('payments', { payment_request: payable.data.payment_request });
    assert.equal((await me.ended(receive.id)).status, 'completed');
    const send = await sendTo({ fee_msats: 3 }, { wallet_id });
    assert.equal((await move(send)).status, 202);
    assert.equal((await me.ended(send.id)).status, 'completed');
    for (const id of [receive.id, send.id])
      assert.equal(((await me.get(id)) as Shown & { payment_category: string }).payment_category, 'treasury');
    const standard = await sendTo({}, { wallet_id });
    await me.ended(await me.accept(standard));
    const own = `wallet_id=${wallet_id}`;
    assert.deepEqual(await listed(`${own}&payment_category=treasury`), [send.id, receive.id]);
    assert.deepEqual(await listed(`${own}&payment_category=standard`), [standard.id]);
    assert.deepEqual(await me.history(send.id), ['requested', 'approved', 'held', 'dispatched', 'completed']);
  });
  test('an unknown wallet is 404 with its id, an id that exists 409, and a check is never promoted', async () => {
    const wallet_id = randomUUID();
    const [status, error] = await refusal(await sendTo({}, { wallet_id }));
    const { type, context } = error as { type: string; context: object };
    assert.deepEqual([status, type, context], [404, 'wallet_not_found', { wallet_id }]);
    const check = await approved({ wallet_id: await newWallet() });
    await exists(check, 'treasury_movements');
    await exists({ ...check, id: (await me.receive()).id }, 'treasury_movements');
    assert.equal(
      (await me.ended(await me.accept(check))).status,
      'completed',
      'POST /payments still takes it',
    );
  });
  test('need WRITE, also to receive, and cannot say their own category or fee', async () => {
    const receiver = withKey(server.client, await newKey(server.db, server.credentials, ['RECEIVE']));
    const receive = { id: randomUUID(), wallet_id: server.credentials.wallet_id, payment_kind: 'bolt11' };
    assert.equal((await move({ ...receive, currency: 'btc' }, receiver)).status, 403);
    const body = { ...receive, currency: 'btc', payment_category: 'standard' };
    assert.equal((await move(body)).status, 202);
    assert.equal(
      ((await me.get(receive.id)) as Shown & { payment_category: string }).payment_category,
      'treasury',
    );
  });
});
