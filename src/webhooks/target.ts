import { lookup, type LookupAddress } from 'node:dns';
import { Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import { within } from '../core/clock.ts';

// Where a webhook may lead: a tenant's URL makes this server connect, so it must never reach what only this server can
// reach (threat 13). What a registration is told about its URL is a courtesy; what guards is the judgement of each
// address at its connection, since a name may resolve otherwise a moment later.

/** Thrown where an address must not be called. */
export class BlockedAddress extends Error {}

// Beside what these libraries call private: threats row 13 and the special-purpose registries.
const BLOCKED = `
  0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
  192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
  ::/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16
  fc00::/7 fe80::/10 fec0::/10 ff00::/8`
  .trim()
  .split(/\s+/)
  .map((range) => ipaddr.parseCIDR(range));

/** True for an address that a webhook in production must not reach; v4 written as v6 is judged as v4. */
export function isBlocked(address: string): boolean {
  const [plain = ''] = address.split('%');
  if (!ipaddr.isValid(plain)) return true;
  const own = ipaddr.process(plain);
  return BLOCKED.some(([network, bits]) => network.kind() === own.kind() && own.match(network, bits));
}

/** Why a production webhook may not be called this way, whatever its address; null if it may. */
export function originFault({ protocol, port }: { protocol: string; port: string }): string | null {
  if (protocol !== 'https:') return 'must be https';
  return ['', '443', '8443'].includes(port) ? null : 'the port must be 443 or 8443';
}

const literalOf = (hostname: string): string | null => {
  const bare = hostname.replace(/^\[|\]$/g, '');
  return isIP(bare) === 0 ? null : bare;
};

/** Resolves a name to all its addresses; passed in, so that tests can let a name change its mind. */
export type Resolve = (hostname: string, allow_private: boolean) => Promise<LookupAddress[]>;

/** A name server that is silent is asked so often, each time so long. */
const TRIES = 2;
const TRY_MS = 2000;
/** A name that failed is not asked for again so soon: whoever waits for its name server waits once. */
const FAILED_MS = 5000;
/** Failures that are remembered; the oldest is forgotten first. */
const MAX_FAILED = 1000;

/**
 * Asks the name servers themselves, or the given ones. The system's own lookup waits in a thread, of which the process
 * has few: names whose server is silent would hold up everybody's. Only where private addresses are allowed it is
 * asked, since names of this machine and its network are known to nobody else.
 */
export function createResolve(servers: readonly string[] = []): Resolve {
  const resolver = new Resolver({ timeout: TRY_MS, tries: TRIES });
  if (servers.length > 0) resolver.setServers(servers);
  const outside = shared(async (hostname) => {
    const answers = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
    const found = answers.flatMap((answer, index) =>
      answer.status === 'fulfilled'
        ? answer.value.map((address) => ({ address, family: index === 0 ? 4 : 6 }))
        : [],
    );
    const [first] = answers;
    if (found.length === 0 && first?.status === 'rejected') throw first.reason;
    return found;
  });
  const system = shared(
    (hostname) =>
      new Promise((done, fail) => {
        lookup(hostname, { all: true }, (error, found) => (error ? fail(error) : done(found)));
      }),
  );
  return (hostname, allow_private) => (allow_private ? system : outside)(hostname);
}

type Ask = (hostname: string) => Promise<LookupAddress[]>;

/** Asks once for all who wait for the same name. */
function shared(ask: Ask): Ask {
  const asking = new Map<string, Promise<LookupAddress[]>>();
  const failed = new Map<string, { until_ms: number; error: unknown }>();
  return (hostname) => {
    const failure = failed.get(hostname);
    if (failure && performance.now() < failure.until_ms) return Promise.reject(failure.error as Error);
    const known = asking.get(hostname);
    if (known) return known;
    failed.delete(hostname);
    const answer = ask(hostname)
      .catch((error: unknown) => {
        const [oldest] = failed.keys();
        if (failed.size >= MAX_FAILED && oldest !== undefined) failed.delete(oldest);
        failed.set(hostname, { until_ms: performance.now() + FAILED_MS, error });
        throw error;
      })
      .finally(() => asking.delete(hostname));
    asking.set(hostname, answer);
    return answer;
  };
}

/** How receivers are reached. */
export interface Network {
  /** Why a host would not be called as it resolves now, or null; one that does not resolve may do so later. */
  blocked(hostname: string): Promise<string | null>;
  /** Connections to anywhere, or only to public addresses. */
  dispatcher(allow_private: boolean): Dispatcher;
  close(): Promise<void>;
}

const RESOLVE_MS = 2000;

/** Opens the pools. The address is judged when it is connected to, so that a name cannot change in between. */
export function openNetwork(resolve: Resolve, timeout_ms: number): Network {
  const agentFor = (allow_private: boolean): Agent => {
    const options = {
      timeout: timeout_ms,
      lookup: (hostname: string, { all }: { all?: boolean }, done: (...answer: unknown[]) => void) => {
        resolve(hostname, allow_private).then(
          (found) => {
            const usable = allow_private ? found : found.filter(({ address }) => !isBlocked(address));
            const [first] = usable;
            if (!first) return done(new BlockedAddress(`${hostname} has no public address`));
            if (all) done(null, usable);
            else done(null, first.address, first.family);
          },
          (error: unknown) => done(error),
        );
      },
    };
    const connect = buildConnector(options as unknown as buildConnector.BuildOptions);
    return new Agent({
      // The queues bound what is under way to each registration; one host that hangs must not hold up another path of it.
      connections: null,
      pipelining: 1,
      headersTimeout: timeout_ms,
      bodyTimeout: timeout_ms,
      keepAliveTimeout: 10_000,
      connect: (target, callback) => {
        // A literal address is connected to without a lookup.
        const literal = literalOf(target.hostname);
        const fault = allow_private
          ? null
          : // It may have been registered where more was allowed.
            (originFault(target) ??
            (literal !== null && isBlocked(literal) ? `${literal} is not a public address` : null));
        if (fault === null) connect(target, callback);
        else callback(new BlockedAddress(fault), null);
      },
    });
  };
  const anywhere = agentFor(true);
  const public_only = agentFor(false);
  return {
    async blocked(hostname) {
      const literal = literalOf(hostname);
      if (literal !== null) return isBlocked(literal) ? `${literal} is not a public address` : null;
      const found = await within(resolve(hostname, false), RESOLVE_MS).catch(() => []);
      if (found.length === 0 || found.some(({ address }) => !isBlocked(address))) return null;
      return `${hostname} has no public address`;
    },
    dispatcher: (allow_private) => (allow_private ? anywhere : public_only),
    async close() {
      await Promise.all([anywhere.destroy(), public_only.destroy()]);
    },
  };
}
