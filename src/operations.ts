import { timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { AppDeps } from './app.ts';
import { hashKey } from './core/auth.ts';
import { ApiError } from './core/errors.ts';

// What the operator's tools ask for: no route of the contract, no API key. `/healthz` asks nothing, so that nobody
// restarts a server because its database is away; `/readyz` asks the database and every node.

const LOOPBACK = new Set(['127.0.0.1', '::1', '::ffff:127.0.0.1']);

/** Metrics answer the machine itself, or the bearer of the token; a proxy on the machine is not the machine. */
function mayReadMetrics(request: FastifyRequest, token: string | null): boolean {
  if (token !== null) {
    const given = request.headers.authorization?.replace(/^Bearer /, '') ?? '';
    // Hashes have one length: the comparison tells nothing of the token.
    if (timingSafeEqual(hashKey(given), hashKey(token))) return true;
  }
  const forwarded = request.headers['x-forwarded-for'] ?? request.headers.forwarded;
  return forwarded === undefined && LOOPBACK.has(request.socket.remoteAddress ?? '');
}

/** The operator's pages: process up, able to serve, figures. */
export function mountOperations(
  app: FastifyInstance,
  { config, metrics, notReady }: Pick<AppDeps, 'config' | 'metrics' | 'notReady'>,
): void {
  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    const missing = await notReady();
    const ready = Object.keys(missing).length === 0;
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', missing });
  });
  app.get('/metrics', async (request, reply) => {
    if (!mayReadMetrics(request, config.metrics_token)) {
      // They name nodes and tell what is earned.
      throw new ApiError('access_rights', 'metrics need the token, or a request from this machine');
    }
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
}
