import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import type { Resolve } from './resolve.ts';

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
      const late = new Promise<never>((_resolve, reject) => {
        setTimeout(() => reject(new Error('no answer in time')), RESOLVE_MS).unref();
      });
      const found = await Promise.race([resolve(hostname, false), late]).catch(() => []);
      if (found.length === 0 || found.some(({ address }) => !isBlocked(address))) return null;
      return `${hostname} has no public address`;
    },
    dispatcher: (allow_private) => (allow_private ? anywhere : public_only),
    async close() {
      await Promise.all([anywhere.destroy(), public_only.destroy()]);
    },
  };
}
