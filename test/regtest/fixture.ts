import type { Clock } from '../../src/core/clock.ts';
import { VoltageClient } from 'voltage-api-sdk';
import { loadConfig } from '../../src/config.ts';
import { actor } from '../actor.ts';
import { createClient, installFetchHook } from '../client.ts';
import { createTestDatabase, type TestDatabase } from '../database.ts';
import { newTenant, spawnServer, startTestServer, type ServerProcess, type TestServer } from '../fixtures.ts';
import { eventually } from '../wait.ts';
import type { RegtestNetwork } from './network.ts';

/** A server whose wallets are on the network's own node. */
export async function startRealServer(
  net: RegtestNetwork,
  environment: Record<string, string> = {},
  clock?: Clock,
): Promise<TestServer> {
  const server = await startTestServer(
    { COULOMB_NODES_FILE: net.nodes_file, ...environment },
    clock,
    'testnet3',
  );
  await ready(server);
  return server;
}

/** Waits until the server has all that it needs, its node included. */
export const ready = (server: Pick<TestServer, 'base_url'>): Promise<void> =>
  eventually(async () => {
    const answer = await fetch(new URL('/readyz', server.base_url));
    if (!answer.ok) throw new Error(await answer.text());
  });

/** What a client does, with an outside payer that is carol. */
export function realActor(server: TestServer, net: RegtestNetwork) {
  // A send whose call was lost is repeated after half a minute.
  const me = actor(server, 90_000);
  return {
    ...me,
    /** Puts money into the wallet: carol pays an invoice. */
    async fund(amount_msats: number, wallet = server.credentials.wallet_id): Promise<void> {
      const receive = await me.receive({
        wallet_id: wallet,
        amount: { currency: 'btc', amount: amount_msats },
      });
      // Where channels were opened or closed just now, carol finds a way once she has heard of it.
      await eventually(
        async () => {
          const paid = await net.carol.pay(receive.data.payment_request ?? '');
          if (paid.status !== 'SUCCEEDED') throw new Error(`carol could not pay: ${paid.failure_reason}`);
        },
        30_000,
        500,
      );
      const { status } = await me.ended(receive.id);
      if (status !== 'completed') throw new Error(`the receive is ${status}`);
    },
  };
}

/** A database with a tenant on the network's node, for servers in processes of their own. */
export async function startPlace(
  net: RegtestNetwork,
  environment: Record<string, string> = {},
  given?: TestDatabase,
) {
  installFetchHook();
  const database = given ?? (await createTestDatabase());
  const settings = { COULOMB_NODES_FILE: net.nodes_file, ...environment };
  const { nodes } = loadConfig(settings);
  const credentials = await newTenant(database.db, 'testnet3', nodes);
  let current: ServerProcess | null = null;

  /** What a client sees of a server process. */
  function through(spawned: ServerProcess): TestServer {
    const { base_url } = spawned;
    return {
      base_url,
      credentials,
      client: createClient(base_url, credentials.api_key),
      sdk: new VoltageClient({ baseUrl: base_url, apiKey: credentials.api_key }),
      db: database.db,
      database_url: database.url,
      stop: () => spawned.kill('SIGTERM'),
    };
  }
  const spawn = async (): Promise<ServerProcess> => spawnServer(database.url, settings);
  return {
    db: database.db,
    credentials,
    spawn,
    through,
    /** Starts the one server of this place, and waits for its node unless told otherwise. */
    async start({ wait = true } = {}): Promise<TestServer> {
      current = await spawn();
      const server = through(current);
      if (wait) await ready(server);
      return server;
    },
    kill: async (signal: NodeJS.Signals = 'SIGKILL') => current?.kill(signal),
    output: () => current?.output() ?? '',
    async end(): Promise<void> {
      await current?.kill('SIGKILL');
      await database.drop();
    },
  };
}

/**
 * Stops every write to a wallet: whoever wants to move its money waits until `free`. What is under way at the
 * server stands still just before the commit that it would make next.
 */
export const holdWallet = (db: TestServer['db'], wallet_id: string): Promise<Lock> =>
  holdRow(db, 'SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE', wallet_id);

/** The same for one payment: no step of it can be committed until `free`. */
export const holdPayment = (db: TestServer['db'], payment_id: string): Promise<Lock> =>
  holdRow(db, 'SELECT 1 FROM payments WHERE id = $1 FOR UPDATE', payment_id);

/** Another server writes down that it calls the node for this payment; committed at `free`. */
export const holdCount = (db: TestServer['db'], payment_id: string): Promise<Lock> =>
  holdRow(db, `UPDATE payments SET calls = calls + 1 WHERE id = $1 AND state = 'dispatched'`, payment_id);

/** Resolves once a server wants to write what is held. */
export const someoneWaits = (db: TestServer['db'], wait_ms: number): Promise<void> =>
  eventually(async () => {
    const waiting = await db.query(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    if (waiting.length === 0) throw new Error('nobody waits for a lock');
  }, wait_ms);

interface Lock {
  free(): Promise<void>;
}

async function holdRow(db: TestServer['db'], text: string, id: string): Promise<Lock> {
  const locked = Promise.withResolvers<void>();
  const let_go = Promise.withResolvers<void>();
  const over = db.transaction(async (sql) => {
    await sql.query(text, [id]);
    locked.resolve();
    await let_go.promise;
  });
  await Promise.race([locked.promise, over]);
  return {
    async free() {
      let_go.resolve();
      await over;
    },
  };
}

/** Worth of a node of the server minus its ledger as the server's own gauge says; msats. */
export async function driftOf(server: Pick<TestServer, 'base_url'>, node = 'ours'): Promise<bigint> {
  const text = await (await fetch(new URL('/metrics', server.base_url))).text();
  const found = text.split('\n').find((line) => line.startsWith(`coulomb_node_drift_msats{node="${node}"} `));
  const drift = found?.split(' ')[1];
  if (drift === undefined) throw new Error('the gauge does not know the node');
  return BigInt(drift);
}
