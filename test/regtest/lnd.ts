import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { hexOf, openLnd, type LndClient } from '../../src/lightning/lnd-client.ts';
import type { Tools } from './build.ts';
import type { Chain } from './chain.ts';
import { freePorts } from './ports.ts';
import { eventually } from '../wait.ts';
import { startProgram, type Program } from './program.ts';

const START_MS = 60_000;

export interface InvoiceOptions {
  amount_msats?: bigint;
  expiry?: number;
  memo?: string;
}

const argsOf = (
  folder: string,
  { access }: Chain,
  { rpc_port, listen_port }: Record<'rpc_port' | 'listen_port', number>,
): string[] => [
  `--lnddir=${folder}`,
  '--configfile=/dev/null',
  '--noseedbackup',
  '--bitcoin.regtest',
  '--bitcoin.node=btcd',
  `--btcd.rpchost=127.0.0.1:${access.rpc_port}`,
  `--btcd.rpcuser=${access.user}`,
  `--btcd.rpcpass=${access.password}`,
  `--btcd.rpccert=${access.rpc_cert}`,
  `--rpclisten=127.0.0.1:${rpc_port}`,
  `--listen=127.0.0.1:${listen_port}`,
  '--norest',
  '--nobootstrap',
  '--bitcoin.defaultchanconfs=1',
  '--trickledelay=50',
  '--maxpendingchannels=10',
  // A link that holds everything back for minutes is not dead to the node: what it held arrives in the end.
  '--grpc.server-ping-time=1h',
];

type Ask = <T>(method: string, request?: object, service?: Parameters<LndClient['ask']>[0]) => Promise<T>;

/** What a payee does with its invoices. */
const invoicesOf = (ask: Ask) => ({
  async invoice({ amount_msats = 0n, expiry = 3600, memo = '' }: InvoiceOptions = {}) {
    const made = await ask<{ payment_request: string; r_hash: Uint8Array }>('addInvoice', {
      value_msat: amount_msats.toString(),
      expiry,
      memo,
    });
    return { payment_request: made.payment_request, payment_hash: hexOf(made.r_hash) };
  },
  /** An invoice whose payment is held until `settle` or `cancel`. */
  async holdInvoice(preimage: Buffer, hash: Buffer, amount_msats: bigint) {
    const { payment_request } = await ask<{ payment_request: string }>(
      'addHoldInvoice',
      { hash, value_msat: amount_msats.toString(), cltv_expiry: '40' },
      'invoices',
    );
    return {
      payment_request,
      payment_hash: hash.toString('hex'),
      settle: () => ask('settleInvoice', { preimage }, 'invoices'),
      cancel: () => ask('cancelInvoice', { payment_hash: hash }, 'invoices'),
    };
  },
  async invoiceState(payment_hash: string): Promise<string> {
    const r_hash = Buffer.from(payment_hash, 'hex');
    return (await ask<{ state: string }>('lookupInvoice', { r_hash })).state;
  },
});

/** What a node does with its channels and their peers. */
const channelsOf = (ask: Ask) => ({
  connect: (other: { id: string; p2p: string }) =>
    ask('connectPeer', { addr: { pubkey: other.id, host: other.p2p }, perm: true, timeout: '5' }).catch(
      (error: Error) => {
        if (!/already connected/.test(error.message)) throw error;
      },
    ),
  openChannel: (peer: string, sats: number, push: number) =>
    ask('openChannelSync', {
      node_pubkey: Buffer.from(peer, 'hex'),
      local_funding_amount: sats,
      push_sat: push,
      sat_per_vbyte: '2',
      spend_unconfirmed: false,
    }),
  async channels() {
    const { channels } = await ask<{
      channels: { active: boolean; local_balance: string; channel_point: string }[];
    }>('listChannels');
    return channels;
  },
});

/** A payment as the node that makes it lists it. */
export interface NodePayment {
  payment_hash: string;
  status: string;
  fee_msat: string;
  htlcs: { status: string; route: { total_time_lock: number } }[];
}

/** All payments that a node made or makes. */
async function paymentsOf(ask: Ask): Promise<NodePayment[]> {
  const { payments } = await ask<{ payments: NodePayment[] }>('listPayments', {
    include_incomplete: true,
    max_payments: '1000000',
  });
  return payments;
}

interface PaymentEnd {
  status: string;
  failure_reason: string;
  payment_preimage: string;
  fee_msat: string;
}

/** Pays as an outside payer would; the final state of the payment. */
const pay = (client: LndClient, payment_request: string, amount_msats?: bigint): Promise<PaymentEnd> =>
  new Promise((resolve, reject) => {
    const stream = client.listen<PaymentEnd>('router', 'sendPaymentV2', {
      payment_request,
      ...(amount_msats === undefined ? {} : { amt_msat: amount_msats.toString() }),
      fee_limit_msat: '1000000',
      timeout_seconds: 60,
      no_inflight_updates: true,
    });
    stream.on('data', resolve);
    stream.on('error', reject);
  });

export type Lnd = Awaited<ReturnType<typeof startLnd>>;

/** An lnd of the network: started, synced, and driven from the test's side. */
export async function startLnd(tools: Tools, chain: Chain, folder: string) {
  const [rpc_port = 0, listen_port = 0] = await freePorts(2);
  mkdirSync(folder, { recursive: true });
  const cert_file = join(folder, 'tls.cert');
  const macaroon_file = join(folder, 'data', 'chain', 'bitcoin', 'regtest', 'admin.macaroon');
  const args = argsOf(folder, chain, { rpc_port, listen_port });
  let program: Program;
  let client: LndClient;

  async function open(): Promise<void> {
    program = startProgram(tools.lnd, args, join(folder, 'lnd.log'));
    await eventually(
      () => (existsSync(macaroon_file) ? Promise.resolve() : Promise.reject(new Error('no macaroon yet'))),
      START_MS,
    );
    client = openLnd({
      socket: `127.0.0.1:${rpc_port}`,
      cert: readFileSync(cert_file),
      macaroon: readFileSync(macaroon_file),
    });
    await eventually(async () => {
      const info = await client.ask<{ synced_to_chain: boolean }>('default', 'getInfo', {}, 2000);
      if (!info.synced_to_chain) throw new Error('not synced');
    }, START_MS);
  }
  await open();
  // After the start the getter is what tests use: a restart makes a new client.
  const ask: Ask = (method, request = {}, service = 'default') => client.ask(service, method, request);
  const { identity_pubkey } = await ask<{ identity_pubkey: string }>('getInfo');

  return {
    folder,
    id: identity_pubkey,
    rpc_port,
    cert_file,
    macaroon_file,
    p2p: `127.0.0.1:${listen_port}`,
    ask,
    get client() {
      return client;
    },
    address: async () =>
      (await ask<{ address: string }>('newAddress', { type: 'WITNESS_PUBKEY_HASH' })).address,
    ...channelsOf(ask),
    ...invoicesOf(ask),
    payments: () => paymentsOf(ask),
    pay: (payment_request: string, amount_msats?: bigint) => pay(client, payment_request, amount_msats),
    kill: () => program.end('SIGKILL').then(() => client.close()),
    signal: (signal: NodeJS.Signals) => program.process.kill(signal),
    start: open,
    /** With SIGTERM it writes down all that it knows. */
    stop: async (signal: NodeJS.Signals = 'SIGKILL') => {
      client.close();
      await program.end(signal);
    },
  };
}
