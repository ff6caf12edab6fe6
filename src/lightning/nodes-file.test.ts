import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ConfigError, loadConfig } from '../config.ts';

const folder = mkdtempSync(join(tmpdir(), 'coulomb-nodes-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'nodes.json');
writeFileSync(join(folder, 'tls.cert'), '-----BEGIN CERTIFICATE-----\n');
writeFileSync(join(folder, 'good.macaroon'), Buffer.from([2, 1, 3]));
writeFileSync(join(folder, 'bad.macaroon'), 'text');

const node = (fields: object = {}) => ({
  id: 'lnd-1',
  network: 'testnet3',
  kind: 'lnd',
  socket: '127.0.0.1:10009',
  cert_file: 'tls.cert',
  macaroon_file: 'good.macaroon',
  ...fields,
});
const load = (content: unknown) => {
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return loadConfig({ COULOMB_NODES_FILE: path }).nodes;
};

test('a nodes file gives its nodes, their files read from beside it', () => {
  const [read] = load([node({ private_hints: true })]);
  assert.deepEqual(
    [read?.id, read?.network, read?.macaroon[0], read?.private_hints],
    ['lnd-1', 'testnet', 2, true],
  );
});

test('every fault of every node is told at once, by name', () => {
  const told = (content: unknown): string => {
    try {
      load(content);
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      return error.message;
    }
    throw new Error('accepted');
  };
  const message = told([
    node({ cert_file: 'missing.cert', network: 'regtest' }),
    node({ id: 'Bad Id', socket: 'nowhere', macaroon_file: 'bad.macaroon', colour: 'blue' }),
    node({ id: 'sandbox', kind: 'cln' }),
    'text',
  ]);
  for (const fault of [
    'node lnd-1: network must be one of',
    'node lnd-1: cert_file: ENOENT',
    'node Bad Id: id must be',
    'node Bad Id: socket must be host:port',
    'node Bad Id: macaroon_file is no binary macaroon',
    'node Bad Id: colour is not known',
    'node sandbox: the id sandbox is taken',
    'node sandbox: kind must be lnd',
    'node number 4: id must be a non-empty text',
  ]) {
    assert.ok(message.includes(fault), `${fault} in ${message}`);
  }
  assert.match(told([node(), node()]), /node lnd-1 is registered twice/);
  assert.match(told('{'), /COULOMB_NODES_FILE/);
  assert.match(told({}), /must be a JSON list/);
});
