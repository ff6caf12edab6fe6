import assert from 'node:assert/strict';
import { test } from 'node:test';
import { request } from 'undici';
import { ApiError } from '../core/errors.ts';
import { checkUrl } from './rules.ts';
import { BlockedAddress, isBlocked, openNetwork } from './target.ts';

test('threat 13: every range that is not public is blocked, in every notation', () => {
  const blocked =
    '0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.254 127.0.0.1 127.8.8.8 169.254.169.254 172.16.0.1 172.31.255.255 ' +
    '192.0.0.8 192.168.1.1 198.18.0.1 198.19.255.255 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 ' +
    ':: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe fc00::1 fdff::1 fe80::1 fe80::1%eth0 ff02::1 ' +
    '64:ff9b::7f00:1 ::ffff:0:7f00:1 ::ffff:0:127.0.0.1 2002:7f00:1::1 nonsense';
  for (const address of blocked.split(' ')) assert.ok(isBlocked(address), address);
  for (const address of '1.1.1.1 8.8.8.8 172.15.0.1 172.32.0.1 192.169.0.1 100.128.0.1 ::ffff:8.8.8.8 2606:4700::1111'.split(
    ' ',
  ))
    assert.ok(!isBlocked(address), address);
});

test('threat 13: in production a URL is https on 443 or 8443, to a public address, without credentials', async () => {
  const network = openNetwork(
    (name) => Promise.resolve([{ address: name.startsWith('in') ? '10.0.0.7' : '93.184.216.34', family: 4 }]),
    1000,
  );
  const refused = async (url: string, allow_private = false): Promise<boolean> =>
    checkUrl(url, allow_private, network).then(
      () => false,
      (error: unknown) => {
        assert.ok(error instanceof ApiError && error.type === 'invalid_webhook');
        return true;
      },
    );
  for (const url of ['https://shop.example/hook', 'https://shop.example:8443', 'https://[2606:4700::1111]/'])
    assert.equal(await refused(url), false, url);
  const bad = [
    'http://shop.example',
    'https://shop.example:8080',
    'https://shop.example:22',
    'https://user:pass@shop.example',
    'https://inside.example',
    'https://127.0.0.1',
    'https://2130706433',
    'https://0x7f.1',
    'https://0177.0.0.1',
    'https://127.1',
    'https://[::1]',
    'https://[::ffff:10.0.0.1]',
    'ftp://shop.example',
    'javascript:alert(1)',
    'shop.example',
    '',
    `https://shop.example/${'x'.repeat(3000)}`,
  ];
  for (const url of bad) assert.equal(await refused(url), true, url);
  for (const url of ['http://127.0.0.1:3000/x', 'http://[::1]:80', 'https://inside.example:9999'])
    assert.equal(await refused(url, true), false, `${url} where private is allowed`);
  assert.equal(await refused('ftp://127.0.0.1', true), true);
  await network.close();
});

test('threat 13: a URL that was stored under wider rules is not called: the rules are applied at the connection, too', async () => {
  const network = openNetwork(() => Promise.resolve([{ address: '127.0.0.1', family: 4 }]), 1000);
  const call = (url: string, allow_private: boolean): Promise<unknown> =>
    request(url, { dispatcher: network.dispatcher(allow_private) }).then(
      () => null,
      (error: unknown) => error,
    );
  for (const url of ['http://shop.example/', 'http://shop.example:443/', 'https://shop.example:22/']) {
    const refused = await call(url, false);
    assert.ok(refused instanceof BlockedAddress, `${url}: ${String(refused)}`);
    assert.match(refused.message, /must be/);
    assert.ok(!((await call(url, true)) instanceof BlockedAddress), `${url} where private is allowed`);
  }
  await network.close();
});
