import { createHash, createHmac, randomBytes } from 'node:crypto';
import { bech32 } from '@scure/base';
import { RawTx } from '@scure/btc-signer';
import secp256k1 from 'secp256k1';
import { createLane } from '../core/batch.ts';
import type { Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { CHAINS } from './address.ts';
import { transactionId } from './block.ts';
import { encodeInvoice } from './bolt11.ts';
import type { Invoice, InvoiceRequest } from './node.ts';

// What the sandbox's node is made of: its keys, invoices and transactions, none of which is worth anything.

/** What everything of the sandbox stands on: all its state is in the database. */
export interface Sandbox {
  db: Database;
  clock: Clock;
  seed: Buffer;
}

/** Calls that arrive while one runs share the next: the sandbox must not be what a load test measures. */
export const together = <Call, Answer>(
  concurrency: number,
  run: (calls: readonly Call[]) => Promise<readonly Answer[]>,
): ((call: Call) => Promise<Answer>) =>
  createLane<Call, Answer>({
    max_batch: 256,
    max_queue: 100_000,
    concurrency,
    run: async (calls) => (await run(calls)).map((value) => ({ ok: true, value })),
  }).submit;

/** Everything secret of the sandbox follows from its seed and a name: nothing else needs to be stored. */
export const derive = (seed: Buffer, purpose: string, name: string): Buffer =>
  createHmac('sha256', seed).update(`${purpose}/${name}`).digest();

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

const witnessProgram = (seed: Buffer, reference: string): Buffer => {
  const public_key = secp256k1.publicKeyCreate(derive(seed, 'address', reference));
  return createHash('ripemd160').update(sha256(public_key)).digest();
};

/** A P2WPKH address of the test networks (`tb1q…`) that belongs to a reference. */
export const addressOf = (seed: Buffer, reference: string): string =>
  bech32.encode('tb', [0, ...bech32.toWords(witnessProgram(seed, reference))]);

/** Makes invoices of one of the sandbox network's nodes. */
export function createInvoiceMaker(seed: Buffer, node: 'own' | 'outside') {
  const private_key = derive(seed, 'node', node);
  return (preimage: Buffer, request: Omit<InvoiceRequest, 'reference'>): Invoice => {
    const hash = sha256(preimage);
    const payment_hash = hash.toString('hex');
    const payment_request = encodeInvoice({
      prefix: CHAINS.mutinynet.invoice_prefix,
      amount_msats: request.amount_msats,
      payment_hash: hash,
      payment_secret: derive(seed, 'secret', payment_hash),
      description: request.description,
      expiry_seconds: request.expiry_seconds,
      created_at_ms: request.created_at_ms,
      private_key,
    });
    return { payment_hash, payment_request };
  };
}

export interface MadeTransaction {
  tx_id: string;
  raw: string;
  vout: number;
}

// 1 in, 2 out, P2WPKH: 141 vbytes at 1 sat/vB.
export const FEE_SATS = 141n;
const CHANGE_SATS = 100_000n;
const RBF_SEQUENCE = 0xfffffffd;

/** A transaction that pays `amount_sats` to `script`; its input is the sandbox's own invention. */
export function makeTransaction(seed: Buffer, script: Uint8Array, amount_sats: bigint): MadeTransaction {
  // Random, so that two payments alike are two transactions.
  const input = { txid: randomBytes(32), index: 0, finalScriptSig: new Uint8Array(), sequence: RBF_SEQUENCE };
  const change = Buffer.concat([Buffer.from([0, 20]), witnessProgram(seed, 'change')]);
  const body = {
    version: 2,
    inputs: [input],
    outputs: [
      { amount: amount_sats, script },
      { amount: CHANGE_SATS, script: change },
    ],
    lockTime: 0,
  };
  const witness = [randomBytes(71), Buffer.from(secp256k1.publicKeyCreate(derive(seed, 'address', 'input')))];
  const raw = Buffer.from(RawTx.encode({ ...body, segwitFlag: true, witnesses: [witness] })).toString('hex');
  return { tx_id: transactionId(raw), raw, vout: 0 };
}
