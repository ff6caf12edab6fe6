import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { createVault, isSealed, parseKey } from './vault.ts';

const vault = createVault(randomBytes(32));

test('what is sealed opens again, never looks the same twice, and only for what it belongs to', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string(), (text, owner) => {
      const sealed = vault.seal(text, owner);
      assert.equal(vault.open(sealed, owner), text);
      assert.ok(isSealed(sealed));
      assert.notEqual(vault.seal(text, owner), sealed);
      assert.throws(() => vault.open(sealed, `${owner}.`));
      assert.throws(() => createVault(randomBytes(32)).open(sealed, owner));
    }),
  );
});

test('a changed text does not open', () => {
  const sealed = vault.seal('whsec_x', 'a');
  for (let at = 'sealed1.'.length; at < sealed.length - 1; at += 1) {
    const changed = `${sealed.slice(0, at)}${sealed[at] === 'A' ? 'B' : 'A'}${sealed.slice(at + 1)}`;
    assert.throws(() => vault.open(changed, 'a'));
  }
});

test('a key is 32 bytes in hex or Base64, and nothing else', () => {
  const key = randomBytes(32);
  for (const form of ['hex', 'base64', 'base64url'] as const)
    assert.deepEqual(parseKey(key.toString(form)), key);
  for (const bad of ['', 'password', 'ab'.repeat(31), randomBytes(33).toString('base64')])
    assert.equal(parseKey(bad), null);
});
