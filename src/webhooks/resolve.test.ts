import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { test } from 'node:test';
import { createResolve } from './target.ts';

/** A name server that knows names that begin with `good`, says that there are none with `no`, and else is silent. */
async function startNameServer() {
  const asked: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.toString('latin1', at + 1, at + 1 + length));
      at += 1 + length;
    }
    const name = labels.join('.');
    const type = query.readUInt16BE(at + 1);
    if (type === 1) asked.push(name);
    const answers = name.startsWith('good') && type === 1;
    if (!answers && !name.startsWith('good') && !name.startsWith('no')) return;
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(name.startsWith('no') ? 0x8183 : 0x8180, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(answers ? 1 : 0, 6);
    // A pointer to the name in the question, type A, class IN, no time to live, four bytes.
    const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 93, 184, 216, 34]);
    socket.send(
      Buffer.concat([head, query.subarray(12, at + 5), ...(answers ? [record] : [])]),
      from.port,
      from.address,
    );
  });
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done));
  return { asked, address: `127.0.0.1:${socket.address().port}`, close: () => socket.close() };
}

test('threat 14: names whose server is silent hold up no other name', async () => {
  const server = await startNameServer();
  const resolve = createResolve([server.address]);
  let silent = 0;
  const waiting = Array.from({ length: 50 }, (_, index) =>
    resolve(`silent${index}.example`, false).catch(() => (silent += 1)),
  );
  assert.deepEqual(await resolve('good.example', false), [{ address: '93.184.216.34', family: 4 }]);
  assert.equal(silent, 0, 'the others still wait');
  await Promise.all(waiting);
  assert.equal(silent, 50, 'and none waits for ever');
  server.close();
});

test('who asks for the same name at once asks once; a name that failed is left alone for a while', async () => {
  const server = await startNameServer();
  const resolve = createResolve([server.address]);
  const found = await Promise.all(Array.from({ length: 20 }, () => resolve('good.example', false)));
  assert.equal(found.length, 20);
  assert.deepEqual(server.asked, ['good.example']);
  await assert.rejects(resolve('no.example', false), { code: 'ENOTFOUND' });
  const asked = server.asked.length;
  await assert.rejects(resolve('no.example', false), { code: 'ENOTFOUND' });
  assert.equal(server.asked.length, asked);
  server.close();
});

test('where private addresses are allowed, names of this machine are known', async () => {
  const server = await startNameServer();
  const found = await createResolve([server.address])('localhost', true);
  assert.ok(found.some(({ address }) => address === '127.0.0.1' || address === '::1'));
  assert.deepEqual(server.asked, []);
  server.close();
});
