import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { actor } from './actor.ts';
import { startTestServer, type TestServer } from './fixtures.ts';
import { hooks } from './hooks.ts';
import { startReceiver, type Receiver } from './receiver.ts';

let server: TestServer;
let me: ReturnType<typeof actor>;
let my: ReturnType<typeof hooks>;
let receiver: Receiver;
before(async () => {
  server = await startTestServer();
  me = actor(server);
  my = hooks(server.client, me.base);
  receiver = await startReceiver();
});
after(async () => {
  await server.stop();
  await receiver.close();
});

const create = (events: unknown) =>
  server.client.request('POST', my.path, {
    body: { id: randomUUID(), url: receiver.url, name: 'hook', events },
  });

test('every type of a subscription is checked, beside which others it may stand', async () => {
  const bad = [
    [{ send: 'succeeded', receive: { toString: 1 } }],
    [{ send: 'succeeded', receive: 'bogus' }],
    [{ send: 'succeeded', receive: ['completed', 'bogus'] }],
    [{ send: 'succeeded', test: 7 }],
    [{ other: 'succeeded' }],
    [{}],
    [{ send: null }],
    ['send'],
    [null],
  ];
  for (const events of bad) {
    const answer = await create(events);
    assert.equal(answer.status, 422, `${JSON.stringify(events)}: ${answer.text}`);
    assert.match(answer.text, /events\.0/);
  }
  const id = await my.register(receiver, [
    { send: ['succeeded', 'failed'], receive: 'completed', made_up: true },
  ]);
  const events = [{ send: 'succeeded' }, { send: 'failed' }, { receive: 'completed' }];
  assert.deepEqual((await my.get(id))['events'], events);
  const changed = await server.client.request('PATCH', `${my.path}/${id}`, {
    body: { events: [{ send: 'succeeded', receive: 'bogus' }] },
  });
  assert.equal(changed.status, 422);
});
