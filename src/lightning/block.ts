import { hash } from 'node:crypto';
import { RawTx } from '@scure/btc-signer';
import { BTCArray } from '@scure/btc-signer/script.js';

// What is read from transactions and blocks in Bitcoin's serialization, as nodes hand them over.

const HEADER_BYTES = 80;
/** A block behind its header. A full one takes some 60 ms: only closings that the wallet does not list are looked up. */
const TRANSACTIONS = BTCArray(RawTx);

const doubleHash = (bytes: Uint8Array): Buffer => hash('sha256', hash('sha256', bytes, 'buffer'), 'buffer');

/** The id that these signed bytes (hex) have on the chain: without their witnesses, and shown in reverse. */
export function transactionId(raw: string): string {
  const { segwitFlag: _flag, witnesses: _witnesses, ...body } = RawTx.decode(Buffer.from(raw, 'hex'));
  return doubleHash(RawTx.encode({ ...body, segwitFlag: false }))
    .reverse()
    .toString('hex');
}

/** Amounts (sats) of the outputs of a raw transaction (hex). */
export const amountsOf = (raw: string): bigint[] =>
  RawTx.decode(Buffer.from(raw, 'hex')).outputs.map(({ amount }) => amount);

/**
 * Amounts (sats) of the outputs of the transaction in a raw block that spends `txid:vout`; null when none does.
 * Throws RangeError for bytes that are no block.
 */
export function outputsOfSpender(raw_block: Uint8Array, outpoint: string): bigint[] | null {
  const [txid = '', vout = ''] = outpoint.split(':');
  const wanted = Buffer.from(txid, 'hex');
  const spends = (input: { txid: Uint8Array; index: number }): boolean =>
    input.index === Number(vout) && wanted.equals(input.txid);
  try {
    const transactions = TRANSACTIONS.decode(raw_block.subarray(HEADER_BYTES));
    const spender = transactions.find(({ inputs }) => inputs.some(spends));
    return spender ? spender.outputs.map(({ amount }) => amount) : null;
  } catch (error) {
    throw new RangeError(`not a block: ${(error as Error).message}`);
  }
}
