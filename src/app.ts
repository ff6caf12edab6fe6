import { randomUUID } from 'node:crypto';
import type { OutgoingHttpHeaders } from 'node:http';
import cors from '@fastify/cors';
import scalar from '@scalar/fastify-api-reference';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { TSchema } from 'typebox';
import { addressIn, type Authenticate } from './core/auth.ts';
import { LaneFull } from './core/batch.ts';
import { isUnavailable, sqlState } from './core/db.ts';
import { ApiError } from './core/errors.ts';
import { StreamAnswer, type Caller, type Route } from './core/http.ts';
import { answerOnce, type Answer, type IdempotencyDeps } from './core/idempotency.ts';
import { parseJson, stringifyJson } from './core/json.ts';
import type { Metrics } from './core/metrics.ts';
import { parseQuery } from './core/query.ts';
import { faultsIn, nulCharacterIn, withoutNulls } from './core/schema.ts';
import { isUuid } from './core/ids.ts';
import { buildDocument } from './openapi.ts';
import { mountOperations } from './operations.ts';

// The HTTP side, built once by server.ts. It refuses what needs no rule to be wrong, in the order of the contract,
// and makes every error the contract's envelope. A fault that nobody foresaw is told by its reference alone: its own
// text may hold SQL, addresses or a client's data.

export interface AppConfig {
  body_limit_bytes: number;
  trusted_proxies: readonly string[];
  cors_origins: readonly string[];
  metrics_token: string | null;
  public_url: string | null;
}

export interface AppDeps {
  config: AppConfig;
  log: Logger;
  routes: readonly Route[];
  metrics: Metrics;
  authenticate: Authenticate;
  idempotency: IdempotencyDeps;
  /** What is not ready, by name; empty when all is. */
  notReady(): Promise<Record<string, string>>;
}

declare module 'fastify' {
  interface FastifyRequest {
    raw_body: string;
  }
}

const RETRY_AFTER_SECONDS = 1;
const MAX_IDEMPOTENCY_KEY = 255;
// Statement timeout, lock not available in time: the database answers, but not now.
const BUSY_STATES = new Set(['57014', '55P03']);

/** The HTTP side: routes under /v1, one error mapper, the operator's pages. Nothing listens yet. */
export async function buildApp(deps: AppDeps): Promise<FastifyInstance> {
  const app = Fastify({
    logger: false,
    bodyLimit: deps.config.body_limit_bytes,
    // The reference that a client reports to the operator: ours, never one that a request brings.
    genReqId: () => randomUUID(),
    // The contract has no HEAD: it is refused as any other wrong method.
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 200, ignoreTrailingSlash: false },
    // At a stop, what is being answered is answered; a client that only keeps its connection does not delay it.
    forceCloseConnections: 'idle',
  });
  readBodies(app);
  app.decorateRequest('raw_body', '');
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    done();
  });
  // The key is the credential and travels in a header of its own, never a cookie: any origin may call,
  // unless the operator names the ones that may.
  await app.register(cors, {
    origin: deps.config.cors_origins.length === 0 ? '*' : [...deps.config.cors_origins],
    methods: ['GET', 'POST', 'PATCH', 'PUT', 'DELETE'],
    exposedHeaders: ['x-request-id', 'retry-after'],
    maxAge: 600,
  });
  app.setErrorHandler((error, request, reply) => answerError(deps, request, reply, error));
  app.setNotFoundHandler((request, reply) => refuseUnknown(deps.routes, request, reply));
  for (const route of deps.routes) mount(app, deps, route);
  mountOperations(app, deps);
  const document = buildDocument(deps.routes, deps.config.public_url);
  app.get('/openapi.json', () => document);
  await app.register(scalar, { routePrefix: '/docs', configuration: { url: '/openapi.json' } });
  return app;
}

/**
 * JSON by our own parser: a double would round large amounts (threat 10). The text is kept, as a repeated request is
 * one of the same bytes. An empty body is fine whatever its content type says: clients send it so with a DELETE.
 */
function readBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    /^application\/([a-z0-9.-]+\+)?json\s*(;|$)/i,
    { parseAs: 'string' },
    (request, body, done) => {
      request.raw_body = body as string;
      if (body === '') return done(null, undefined);
      try {
        done(null, parseJson(body as string));
      } catch {
        done(new ApiError('invalid_syntax', 'the body is not valid JSON'), undefined);
      }
    },
  );
}

const fastifyPath = (path: string): string => `/v1${path.replaceAll(/\{(\w+)\}/g, ':$1')}`;

function mount(app: FastifyInstance, deps: AppDeps, route: Route): void {
  app.route({
    method: route.method,
    url: fastifyPath(route.path),
    handler: async (request, reply) => {
      const started = performance.now();
      try {
        const answer = await answerRoute(deps, route, request);
        if (answer instanceof StreamAnswer) stream(reply, answer);
        else send(reply, answer);
      } catch (error) {
        answerError(deps, request, reply, error, route);
      }
      deps.metrics.request(route.operation_id, reply.statusCode, (performance.now() - started) / 1000);
      return reply;
    },
  });
}

function send(reply: FastifyReply, { status, body }: Answer): void {
  reply.code(status);
  if (body !== '') reply.header('content-type', 'application/json; charset=utf-8');
  reply.send(body);
}

/**
 * Sends the headers at once, those that hooks have set included, and hands the socket over. Proxies that gather answers
 * before they pass them on are asked not to.
 */
function stream(reply: FastifyReply, { content_type, run }: StreamAnswer): void {
  reply.hijack();
  const headers = Object.entries(reply.getHeaders()).filter(([, value]) => value !== undefined);
  const own = { 'content-type': content_type, 'cache-control': 'no-store', 'x-accel-buffering': 'no' };
  reply.raw.writeHead(200, { ...(Object.fromEntries(headers) as OutgoingHttpHeaders), ...own });
  reply.raw.flushHeaders();
  run(reply.raw);
}

/** Refusals in the order of the contract: credentials, permission, shape, path and query, then the rules. */
async function answerRoute(
  deps: AppDeps,
  route: Route,
  request: FastifyRequest,
): Promise<Answer | StreamAnswer> {
  const absent = request.raw_body === '';
  if (route.body && !(absent && route.body_optional)) {
    if (request.headers['content-type'] === undefined) {
      throw new ApiError('missing_content_type', 'send content-type: application/json');
    }
    if (absent) throw new ApiError('invalid_syntax', 'the body is empty');
  }
  const caller = await admit(deps, route, request);
  const body = route.body && checkBody(route, route.body, absent ? {} : request.body);
  const params = checkParams(request.params as Record<string, string>);
  const search = request.url.indexOf('?');
  // As it was sent: Fastify's own reading of it knows neither arrays nor maps.
  const query = parseQuery(route.query, search < 0 ? '' : request.url.slice(search + 1));
  const handle = (): Promise<unknown> => {
    const input = { caller, params, query, body, headers: request.headers };
    return route.handler(input as Parameters<Route['handler']>[0]);
  };
  const answerOf = (result: unknown): Answer => {
    const { status } = route.success;
    return { status, body: result === undefined ? '' : stringifyJson(result) };
  };
  const key = request.headers['idempotency-key'];
  if (route.method !== 'POST' || key === undefined) {
    const result = await handle();
    return result instanceof StreamAnswer ? result : answerOf(result);
  }
  if (typeof key !== 'string' || key.length < 1 || key.length > MAX_IDEMPOTENCY_KEY) {
    throw new ApiError(
      'invalid_parameter',
      `Idempotency-Key must have 1 to ${MAX_IDEMPOTENCY_KEY} characters`,
    );
  }
  return answerOnce(
    deps.idempotency,
    {
      ...caller,
      key,
      method: request.method,
      path: request.url,
      body: request.raw_body,
      secret: route.success.secret ?? false,
    },
    () => handle().then(answerOf).catch(refusalAsAnswer),
  );
}

/** A refusal that rules decided is an answer like any other: it is stored and replayed. */
function refusalAsAnswer(error: unknown): Answer {
  if (error instanceof ApiError && error.status < 500) {
    return { status: error.status, body: stringifyJson(error.body()) };
  }
  throw error;
}

async function admit(deps: AppDeps, route: Route, request: FastifyRequest): Promise<Caller> {
  const { headers } = request;
  const api_key = headers['x-api-key'];
  const caller = await deps.authenticate({
    api_key: typeof api_key === 'string' && api_key !== '' ? api_key : undefined,
    authorization: headers.authorization,
    address: clientAddress(request, deps.config.trusted_proxies),
  });
  const { organization_id, environment_id } = request.params as Record<string, string | undefined>;
  // Whether or not the other one exists: nobody can find out who else is here.
  if (
    (organization_id !== undefined && organization_id.toLowerCase() !== caller.organization_id) ||
    (environment_id !== undefined && environment_id.toLowerCase() !== caller.environment_id)
  ) {
    throw new ApiError('access_rights', 'the API key is for another organization or environment');
  }
  const needed =
    typeof route.permissions === 'function' ? route.permissions(request.body) : route.permissions;
  if (!needed.some((permission) => caller.permissions.has(permission))) {
    throw new ApiError('access_rights', `the API key needs ${needed.join(' or ')}`);
  }
  return caller;
}

/**
 * The socket's address; behind trusted proxies, the last address that is not one of them. Read from the end: what
 * stands before is what a client wrote itself, to be let in from anywhere.
 */
function clientAddress(request: FastifyRequest, trusted: readonly string[]): string {
  let address = request.socket.remoteAddress ?? '';
  if (trusted.length === 0) return address;
  const forwarded = String(request.headers['x-forwarded-for'] ?? '').split(',');
  while (addressIn(address, trusted)) {
    const before = forwarded.pop()?.trim();
    if (before === undefined || before === '') return address;
    address = before;
  }
  return address;
}

function checkBody(route: Route, coarse: TSchema, raw: unknown): unknown {
  // PostgreSQL's text cannot hold it: without this the first INSERT would fail.
  const nul = nulCharacterIn(raw);
  if (nul !== null) throw new ApiError('invalid_data', `${nul} must not contain U+0000`);
  const body = route.keeps_nulls ? raw : withoutNulls(raw);
  const isObject = typeof body === 'object' && body !== null && !Array.isArray(body);
  const schema = isObject && route.selectBody ? route.selectBody(body as Record<string, unknown>) : coarse;
  const faults = faultsIn(schema, body);
  if (faults.length > 0) throw new ApiError('invalid_data', faults.join('; '));
  return body;
}

function checkParams(params: Record<string, string>): Record<string, string> {
  for (const [name, value] of Object.entries(params)) {
    if (!isUuid(value)) throw new ApiError('invalid_parameter', `${name} must be a UUID`);
    // One spelling from here on: ids are keys of maps and of text that is compared.
    params[name] = value.toLowerCase();
  }
  return params;
}

function refuseUnknown(routes: readonly Route[], request: FastifyRequest, reply: FastifyReply): never {
  const path = request.url.split('?')[0] ?? '';
  const allowed = routes
    .filter((route) => matches(fastifyPath(route.path), path))
    .map(({ method }) => method);
  if (allowed.length === 0) throw new ApiError('not_found', 'no such route');
  reply.header('allow', allowed.join(', '));
  throw new ApiError('method_not_allowed', `use ${allowed.join(' or ')}`);
}

const matches = (pattern: string, path: string): boolean => {
  const wanted = pattern.split('/');
  const given = path.split('/');
  return (
    wanted.length === given.length &&
    wanted.every((part, index) => part.startsWith(':') || part === given[index])
  );
};

/** Any error as the contract's envelope. What nobody expected is logged once, with the reference. */
function toApiError(deps: AppDeps, request: FastifyRequest, error: unknown, route?: Route): ApiError {
  if (error instanceof ApiError) return error;
  const code = (error as { code?: string }).code;
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return new ApiError('missing_content_type', 'send application/json');
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new ApiError('payload_too_large', `a body has at most ${deps.config.body_limit_bytes} bytes`);
  }
  // Fastify's own refusals: a body that was cut off, a path that does not decode.
  const status = (error as { statusCode?: number }).statusCode;
  if (status !== undefined && status < 500) return new ApiError('invalid_syntax', (error as Error).message);
  const state = sqlState(error);
  // Nobody's mistake, and over by itself: a warning, and the client tries again.
  const unavailable =
    error instanceof LaneFull || isUnavailable(error) || (state !== undefined && BUSY_STATES.has(state));
  deps.log[unavailable ? 'warn' : 'error'](
    { err: error, request_id: request.id, operation_id: route?.operation_id ?? null },
    'request failed',
  );
  const reference = `reference ${request.id}`;
  if (!unavailable) return new ApiError('internal_error', `unexpected fault, ${reference}`);
  // Whether the request had an effect is not known here: a client that repeats it under the same id finds out.
  // Reads of payments have an error of their own for it in the contract, and only they.
  const type = route?.errors[503] ? 'read_temporarily_unavailable' : 'temporarily_unavailable';
  return new ApiError(type, `try again, ${reference}`);
}

function answerError(
  deps: AppDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  error: unknown,
  route?: Route,
): void {
  const refusal = toApiError(deps, request, error, route);
  if (refusal.status === 503) reply.header('retry-after', RETRY_AFTER_SECONDS);
  send(reply, { status: refusal.status, body: stringifyJson(refusal.body()) });
}
