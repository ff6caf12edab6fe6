import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RawTx } from '@scure/btc-signer';
import { outputsOfSpender } from './block.ts';

const txid = (byte: string) => byte.repeat(32);
const script = new Uint8Array([0x51]);
/** A transaction that spends these outputs and pays these amounts, with a witness or without. */
const transaction = (spends: [string, number][], amounts: bigint[], witness: boolean) =>
  RawTx.encode({
    version: 2,
    segwitFlag: witness,
    inputs: spends.map(([id, index]) => ({
      txid: Uint8Array.from(Buffer.from(id, 'hex')),
      index,
      finalScriptSig: witness ? new Uint8Array() : new Uint8Array(300),
      sequence: 0,
    })),
    outputs: amounts.map((amount) => ({ amount, script })),
    ...(witness ? { witnesses: spends.map(() => [new Uint8Array(70_000), new Uint8Array(2)]) } : {}),
    lockTime: 0,
  });
const block = (transactions: Uint8Array[]) =>
  Buffer.concat([Buffer.alloc(80), Buffer.from([transactions.length]), ...transactions]);

test('the outputs of the transaction that spends an outpoint are found among others, whatever their form', () => {
  const found = block([
    transaction([[txid('00'), 0]], [50n], false),
    transaction(
      [
        [txid('aa'), 1],
        [txid('ab'), 7],
      ],
      [1n, 2n],
      true,
    ),
    transaction(
      [
        [txid('cd'), 3],
        [txid('ab'), 1],
      ],
      [330n, 330n, 2n ** 50n],
      true,
    ),
  ]);
  assert.deepEqual(outputsOfSpender(found, `${txid('ab')}:1`), [330n, 330n, 2n ** 50n]);
  assert.deepEqual(outputsOfSpender(found, `${txid('ab')}:7`), [1n, 2n]);
  assert.deepEqual(outputsOfSpender(found, `${txid('00')}:0`), [50n]);
  assert.equal(outputsOfSpender(found, `${txid('ab')}:2`), null);
});

test('bytes that are no block are an error, not an answer', () => {
  assert.throws(() => outputsOfSpender(Buffer.alloc(10), `${txid('ab')}:1`), RangeError);
  const cut = block([transaction([[txid('aa'), 1]], [1n], true)]).subarray(0, 120);
  assert.throws(() => outputsOfSpender(cut, `${txid('ab')}:1`), RangeError);
});
