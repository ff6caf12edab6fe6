import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { within } from '../core/clock.ts';
import { CHAINS } from './address.ts';
import { failureOf, openLnd, type LndAccess, type LndClient } from './lnd-client.ts';
import { lndBooks, type ClosingOutputs } from './lnd-books.ts';
import { lndChain } from './lnd-chain.ts';
import { lndInvoices, settledOf, type LndInvoice } from './lnd-invoices.ts';
import { clockAhead, missingMethods } from './lnd-macaroon.ts';
import { CALL_DEADLINE_MS, lndPayments } from './lnd-payments.ts';
import { lndWorth } from './lnd-worth.ts';
import type { ChainParams, LightningNode, Network, NodeIdentity, NodeListener } from './node.ts';

// A real node behind the port. It may be away at any time and come back as another one: nothing is sent through it until it
// was asked who it is, what its macaroon allows, what time it has and how far its history goes.

export interface LndOptions extends LndAccess {
  id: string;
  network: Network;
  /** The chain it was on when it answered last; null before it ever did. */
  last_chain: string | null;
  private_hints: boolean;
  invoice_secret: Buffer;
  log: Logger;
}

interface Info {
  identity_pubkey: string;
  block_height: number;
  synced_to_chain: boolean;
  chains: { network: string }[];
}

/** Chains that a node may be on to serve each network; the first is assumed until the node has answered. */
const CHAINS_OF: Record<Network, readonly [string, ...string[]]> = {
  mainnet: ['mainnet'],
  testnet: ['testnet', 'testnet4', 'regtest'],
  signet: ['signet'],
  mutinynet: ['signet'],
};

function chainParams(chain: string): ChainParams {
  const params = (CHAINS as Record<string, ChainParams>)[chain];
  if (!params) throw new Error(`no chain ${chain} is known here`);
  return params;
}

const PROBE_TIMEOUT_MS = 10_000;
const PING_MS = 5000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const STOP_MS = 250;
// Only settlements are listened for: invoices up to this index, which none reaches, are not told when they are made.
const NO_INVOICE = (2n ** 63n - 1n).toString();
// A settlement index of another process may be stored before a lower one: this far back is told again.
const OVERLAP = 100n;
/** After its deadline a call is refused; the margin is for the clocks, which are compared to the second. */
const CALL_WINDOW_MS = CALL_DEADLINE_MS + 10_000;

/** Who answers, or what is wrong with a node that does. Rejects when it does not answer. */
async function meet(client: LndClient, options: LndOptions): Promise<NodeIdentity | { fault: string }> {
  const missing = await missingMethods(client, options.macaroon);
  if (missing.length > 0) return { fault: `its macaroon does not allow ${missing.join(', ')}` };
  const info = await client.ask<Info>('default', 'getInfo', {}, PROBE_TIMEOUT_MS);
  const chain = info.chains[0]?.network ?? 'unknown';
  if (!CHAINS_OF[options.network].includes(chain)) {
    return { fault: `it is on ${chain}, which does not serve ${options.network}` };
  }
  return { identity: info.identity_pubkey, chain, block_height: info.block_height };
}

/** Opens an lnd node behind the port. Nothing is asked before `start`. */
export function createLndNode(options: LndOptions): LightningNode & { faults(): Promise<string[]> } {
  const { log } = options;
  const client = openLnd(options);
  const closings: ClosingOutputs = new Map();
  let chain = chainParams(options.last_chain ?? CHAINS_OF[options.network][0]);
  let ahead_ms = 0;
  let up = false;
  let trouble = 'not connected yet';
  let listener: NodeListener | null = null;
  const payments = lndPayments({
    client,
    macaroon: options.macaroon,
    clockAhead: () => ahead_ms,
    indexSeen: (index) => listener?.indexSeen(index),
  });

  const wallet = lndChain({ client, chain: () => chain });

  const connection = createConnection({
    log: log.child({ node_id: options.id }),
    async connect(telling) {
      const met = await meet(client, options);
      // Not what was configured.
      if ('fault' in met) throw new Error(met.fault);
      // In this order: calls to pay are made as soon as `up` says so, and carry a deadline in the node's time; before that
      // the listener compares identity and history, and throws for a node that must not be used.
      ahead_ms = await clockAhead(client, options.macaroon);
      chain = chainParams(met.chain);
      const { settle_index } = await telling.connected(met);
      up = true;
      return watch(client, telling, settle_index);
    },
    lost(reason) {
      up = false;
      trouble = reason;
      // The old channel may be half dead: what waits in it ends now, and ends as unknown.
      client.reconnect();
    },
  });

  return {
    id: options.id,
    network: options.network,
    sandbox: false,
    call_window_ms: CALL_WINDOW_MS,
    get chain() {
      return chain;
    },
    reachable: () => up,
    ...lndInvoices({ ...options, client }),
    ...payments,
    ...wallet,
    books: (since_height, forward_index) => lndBooks(client, since_height, forward_index, closings),
    worth: () => lndWorth(client, wallet.corrections),
    async faults() {
      const met = await meet(client, options);
      return 'fault' in met ? [met.fault] : [];
    },
    start(listening) {
      listener = listening;
      connection.start(listening);
      return Promise.resolve();
    },
    async stop() {
      await connection.stop();
      client.close();
    },
    ping: () => (up ? Promise.resolve() : Promise.reject(new Error(trouble))),
  };
}

interface Watch {
  /** Resolves with the reason when the connection is no longer to be trusted. */
  broken: Promise<string>;
  end(): void;
}

/** Subscribes to what the node tells; whatever ends or is not answered breaks the watch. */
function watch(client: LndClient, listener: NodeListener, settle_index: bigint): Watch {
  const streams: { cancel(): void }[] = [];
  let breakUp: (reason: string) => void = () => {};
  const broken = new Promise<string>((resolve) => (breakUp = resolve));
  const listen = (
    service: 'default' | 'chain',
    method: string,
    request: object,
    on: (message: LndInvoice) => void,
  ) => {
    const stream = client.listen<LndInvoice>(service, method, request);
    stream.on('data', on);
    stream.on('error', (error) => breakUp(`${method}: ${failureOf(error).details}`));
    stream.on('end', () => breakUp(`${method} ended`));
    streams.push(stream);
  };
  const tell = createTeller(listener, breakUp);
  // 0 asks lnd for nothing that is past: while none is stored, what was missed is found by comparing lists instead.
  const from = settle_index > OVERLAP ? settle_index - OVERLAP : settle_index > 0n ? 1n : 0n;
  const since = { add_index: NO_INVOICE, settle_index: from.toString() };
  listen('default', 'subscribeInvoices', since, (invoice) => {
    if (invoice.state === 'SETTLED') tell(invoice);
  });
  // What changed is not read from the message: the wallet's list is, so one that is missed costs a moment, no money.
  const changed = (): void => void listener.chainChanged().catch(() => {});
  listen('default', 'subscribeTransactions', {}, changed);
  listen('chain', 'registerBlockEpochNtfn', {}, changed);
  // Keepalive sees a dead link, only a question sees a node that hangs behind a live one.
  const ping = setInterval(() => {
    client
      .ask('default', 'getInfo', {}, PROBE_TIMEOUT_MS)
      .catch((error: unknown) => breakUp(`no answer: ${(error as Error).message}`));
  }, PING_MS);
  return {
    broken,
    end() {
      clearInterval(ping);
      for (const stream of streams) stream.cancel();
    },
  };
}

/**
 * Tells settlements in batches: those that come while one is being booked form the next. One at a time, in the node's
 * order: a later one that is stored moves the index from which the node is asked again, past any that was not.
 */
function createTeller(listener: NodeListener, breakUp: (reason: string) => void) {
  let waiting: LndInvoice[] = [];
  let telling = false;
  const drain = async (): Promise<void> => {
    telling = true;
    try {
      while (waiting.length > 0) {
        const batch = waiting;
        waiting = [];
        await listener.settled(batch.map(settledOf));
      }
    } catch (error) {
      // Told again from the last stored index once the watch begins anew.
      breakUp(`settlements not booked: ${(error as Error).message}`);
    } finally {
      telling = false;
    }
  };
  return (invoice: LndInvoice): void => {
    waiting.push(invoice);
    if (!telling) void drain();
  };
}

interface ConnectionDeps {
  log: Logger;
  connect(listener: NodeListener): Promise<Watch>;
  lost(reason: string): void;
}

/** Connects, watches, and connects again with growing pauses; a node that is away is never fatal. */
function createConnection({ log, connect, lost }: ConnectionDeps) {
  const ending = new AbortController();
  const stopping = new Promise<void>((resolve) => ending.signal.addEventListener('abort', () => resolve()));
  let running: Promise<void> = Promise.resolve();
  async function run(listener: NodeListener): Promise<void> {
    let pause_ms = FIRST_PAUSE_MS;
    let told = '';
    while (!ending.signal.aborted) {
      try {
        const watching = await connect(listener);
        log.info('node connected');
        pause_ms = FIRST_PAUSE_MS;
        const reason = await Promise.race([watching.broken, stopping.then(() => 'stopped')]);
        watching.end();
        throw new Error(reason);
      } catch (error) {
        const reason = (error as Error).message;
        lost(reason);
        if (!ending.signal.aborted && reason !== told)
          log.warn({ reason }, 'node not connected, will be tried again');
        told = reason;
      }
      await setTimeout(pause_ms, undefined, { signal: ending.signal }).catch(() => {});
      pause_ms = Math.min(pause_ms * 2, LONGEST_PAUSE_MS);
    }
  }
  return {
    start(listener: NodeListener): void {
      running = run(listener);
    },
    async stop(): Promise<void> {
      ending.abort();
      await within(running, STOP_MS, () => {});
    },
  };
}
