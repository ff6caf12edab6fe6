import { hash } from 'node:crypto';
import { RawTx } from '@scure/btc-signer';

// What is read from transactions and blocks in Bitcoin's serialization, as nodes hand them over. Transactions are read by
// the library. Of a block only as much is read as finds one transaction in it: after a start all closings of a node are
// looked up again, and the library, which makes an object of everything, holds the event loop for 20 to 80 ms each time.

const HEADER_BYTES = 80;
const OUTPOINT_BYTES = 36;

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

/** Reads the numbers of Bitcoin's serialization one after the other. Throws RangeError past the end. */
class Cursor {
  readonly bytes: Buffer;
  at = 0;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
  skip(count: number): void {
    this.at += count;
  }
  /** A CompactSize integer; blocks hold none beyond 2^32. */
  size(): number {
    const first = this.bytes.readUInt8(this.at);
    if (first < 0xfd) return ((this.at += 1), first);
    if (first === 0xfd) return ((this.at += 3), this.bytes.readUInt16LE(this.at - 2));
    if (first === 0xfe) return ((this.at += 5), this.bytes.readUInt32LE(this.at - 4));
    throw new RangeError('a size beyond 2^32');
  }
  amount(): bigint {
    this.at += 8;
    return this.bytes.readBigUInt64LE(this.at - 8);
  }
}

/** Skips a transaction; answers its outputs' amounts (sats) if it spends the outpoint. */
function readTransaction(block: Cursor, outpoint: Buffer): bigint[] | null {
  block.skip(4);
  const marked = block.bytes.readUInt8(block.at) === 0;
  if (marked) block.skip(2);
  const inputs = block.size();
  let spends = false;
  for (let input = 0; input < inputs; input += 1) {
    if (block.bytes.subarray(block.at, block.at + OUTPOINT_BYTES).equals(outpoint)) spends = true;
    block.skip(OUTPOINT_BYTES);
    block.skip(block.size() + 4);
  }
  const amounts: bigint[] = [];
  for (let output = block.size(); output > 0; output -= 1) {
    amounts.push(block.amount());
    block.skip(block.size());
  }
  if (marked) {
    for (let input = 0; input < inputs; input += 1) {
      for (let item = block.size(); item > 0; item -= 1) block.skip(block.size());
    }
  }
  block.skip(4);
  return spends ? amounts : null;
}

/**
 * Amounts (sats) of the outputs of the transaction in a raw block that spends `txid:vout`; null when none does.
 * Throws RangeError for bytes that are no block.
 */
export function outputsOfSpender(raw_block: Uint8Array, outpoint: string): bigint[] | null {
  const [txid = '', vout = ''] = outpoint.split(':');
  const wanted = Buffer.alloc(OUTPOINT_BYTES);
  Buffer.from(txid, 'hex').reverse().copy(wanted);
  wanted.writeUInt32LE(Number(vout), OUTPOINT_BYTES - 4);
  const block = new Cursor(Buffer.from(raw_block.buffer, raw_block.byteOffset, raw_block.byteLength));
  block.skip(HEADER_BYTES);
  for (let left = block.size(); left > 0; left -= 1) {
    const amounts = readTransaction(block, wanted);
    if (amounts) return amounts;
  }
  return null;
}
