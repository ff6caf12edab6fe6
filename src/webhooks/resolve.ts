import { lookup, type LookupAddress } from 'node:dns';
import { Resolver } from 'node:dns/promises';

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
