import { randomBytes } from 'node:crypto';
import { Type, type Static } from 'typebox';
import type { Database } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { routesWith, type Caller, type Route } from '../core/http.ts';
import { uuid } from '../core/schema.ts';
import type { Vault } from '../core/vault.ts';
import { abandonOpen, beginRounds } from './deliveries.ts';
import { checkName, checkUrl, EVENT_TYPES, EVENTS, flattened, invalid, shownEvents } from './rules.ts';
import {
  changeWebhook,
  countWebhooks,
  insertWebhook,
  listWebhooks,
  readWebhook,
  secretOwner,
  type Sort,
  type Webhook,
  type WebhookChange,
  type WebhookRef,
} from './store.ts';
import type { Network } from './target.ts';

// Registrations over HTTP. A secret is shown to who made it, once, and afterwards only signs: it is stored sealed, and no
// view has it (threat 15). Every change rings the alarm after its commit, so that whoever sends hears of it at once, on
// whichever server.

export interface WebhookRouteDeps {
  db: Database;
  /** The time of a change, RFC 3339; never the same twice, so that lists keep the order of arrival. */
  time(): string;
  vault: Vault;
  network: Network;
  allow_private: boolean;
  max_per_environment: number;
  /** Tells every server that registrations or deliveries changed; after the commit. */
  changed(): void;
}

const LIST = '/organizations/{organization_id}/environments/{environment_id}/webhooks';
export const ONE = `${LIST}/{webhook_id}`;
const ERRORS = { 400: 'ErrorResponse_WebhookBadRequestError' } as const;
const ERRORS_OF_ONE = { ...ERRORS, 404: 'ErrorResponse_WebhookNotFoundError' } as const;
export const READ = ['READ', 'WRITE'] as const;
const environment = { organization_id: uuid(), environment_id: uuid() };
export const PARAMS = Type.Object({ ...environment, webhook_id: uuid() });
/** A route of one webhook, where it says nothing else. */
export const route = routesWith({ tag: 'Webhooks', params: PARAMS, errors: ERRORS_OF_ONE });
/** Of both lists; typed by what it lets in, since that goes into SQL. */
export const SORT = {
  sort_key: Type.Optional(
    Type.Unsafe<NonNullable<Sort['sort_key']>>({ type: 'string', enum: ['created_at', 'updated_at'] }),
  ),
  sort_order: Type.Optional(
    Type.Unsafe<NonNullable<Sort['sort_order']>>({
      type: 'string',
      enum: ['ASC', 'DESC'],
      description: 'Default DESC',
    }),
  ),
};

const oneOrMore = (events: readonly string[]) =>
  Type.Union([Type.String({ enum: [...events] }), Type.Array(Type.String({ enum: [...events] }))]);
// One object, not a union of three: each of its types is checked, beside which others it may stand.
const Events = Type.Array(
  Type.Object(
    {
      send: Type.Optional(oneOrMore(EVENTS.send)),
      receive: Type.Optional(oneOrMore(EVENTS.receive)),
      test: Type.Optional(oneOrMore(EVENTS.test)),
    },
    { anyOf: EVENT_TYPES.map((type) => ({ required: [type] })) },
  ),
);
const NewWebhook = Type.Object({ id: uuid(), url: Type.String(), name: Type.String(), events: Events });
const WebhookUpdate = Type.Object({
  url: Type.Optional(Type.String()),
  name: Type.Optional(Type.String()),
  events: Events,
});

/** A registration as the contract shows it (schema `WebhookRead`): never a secret. */
const webhookView = (webhook: Webhook): object => ({
  id: webhook.id,
  organization_id: webhook.organization_id,
  environment_id: webhook.environment_id,
  url: webhook.url,
  name: webhook.name,
  events: shownEvents(webhook.events),
  status: webhook.status,
  created_at: webhook.created_at,
  updated_at: webhook.updated_at,
  stopped_at: webhook.stopped_at,
  deleted_at: webhook.deleted_at,
});

export const unknownWebhook = (webhook_id: string): ApiError =>
  new ApiError('webhook_not_found', `no webhook ${webhook_id}`, { context: { webhook_id } });

/** The registration, deleted ones included; `webhook_not_found` where there is none. */
export async function webhookOf(
  { db }: { db: Database },
  caller: Caller,
  webhook_id: string,
): Promise<Webhook> {
  const webhook = await readWebhook(db, { ...caller, id: webhook_id });
  if (!webhook) throw unknownWebhook(webhook_id);
  return webhook;
}

/** A secret that is shown once: 256 random bits. */
const newSecret = (): string => `whsec_${randomBytes(32).toString('base64url')}`;

const mayBePrivate = ({ allow_private }: WebhookRouteDeps, caller: Caller): boolean =>
  allow_private && caller.environment_kind === 'staging';

async function change(
  { db, time, changed }: WebhookRouteDeps,
  caller: Caller,
  webhook_id: string,
  what: WebhookChange,
): Promise<void> {
  const ref = { ...caller, id: webhook_id };
  const at = time();
  // Before it is active: its deliveries would be attempted while their schedule is still the old one.
  if (what.status === 'active') await beginRounds(db, ref, at);
  await db.transaction(async (sql) => {
    if (!(await changeWebhook(sql, ref, what, at))) throw unknownWebhook(webhook_id);
    if (what.status === 'deleted') await abandonOpen(sql, ref, at);
  });
  changed();
}

function sealed({ vault }: WebhookRouteDeps, secret: string, ref: WebhookRef): string {
  if (!vault.has_key) throw invalid('this server keeps no secrets: its operator sets COULOMB_SECRET_KEY');
  return vault.seal(secret, secretOwner(ref));
}

async function create(
  deps: WebhookRouteDeps,
  caller: Caller,
  body: Static<typeof NewWebhook>,
): Promise<object> {
  checkName(body.name);
  await checkUrl(body.url, mayBePrivate(deps, caller), deps.network);
  const ref = { ...caller, id: body.id.toLowerCase() };
  const shared_secret = newSecret();
  const row = {
    ...ref,
    url: body.url,
    name: body.name,
    events: flattened(body.events),
    secret: sealed(deps, shared_secret, ref),
  };
  await deps.db.transaction(async (sql) => {
    const count = await countWebhooks(sql, ref);
    if (!(await insertWebhook(sql, row, deps.time()))) {
      const context = { webhook_id: ref.id };
      throw new ApiError('webhook_exists', `webhook ${ref.id} exists`, { context });
    }
    // Thrown, so that what was inserted is not kept.
    if (count >= deps.max_per_environment)
      throw invalid(`this environment has ${count} webhooks: delete one first`);
  });
  deps.changed();
  return { id: ref.id, shared_secret };
}

const createRoute = (deps: WebhookRouteDeps): Route =>
  route({
    method: 'POST',
    path: LIST,
    operation_id: 'create_webhook',
    summary: 'Register a webhook; its secret is shown now and never again',
    permissions: ['WRITE'],
    params: Type.Object(environment),
    body: NewWebhook,
    success: { status: 202, schema: { $ref: '#/components/schemas/WebhookPlainSecret' }, secret: true },
    errors: { ...ERRORS, 409: 'ErrorResponse_WebhookConflictError' },
    handler: ({ caller, body }) => create(deps, caller, body),
  });

const getRoute = (deps: WebhookRouteDeps): Route =>
  route({
    method: 'GET',
    path: ONE,
    operation_id: 'get_webhook',
    summary: 'Read one webhook',
    permissions: READ,
    success: { status: 200, schema: { $ref: '#/components/schemas/WebhookRead' } },
    handler: async ({ caller, params }) => webhookView(await webhookOf(deps, caller, params.webhook_id)),
  });

const updateRoute = (deps: WebhookRouteDeps): Route =>
  route({
    method: 'PATCH',
    path: ONE,
    operation_id: 'update_webhook',
    summary: 'Change URL, name and events; the list of events is replaced as a whole',
    permissions: ['WRITE'],
    body: WebhookUpdate,
    success: { status: 202 },
    handler: async ({ caller, params, body }) => {
      const { url, name } = body;
      if (name !== undefined) checkName(name);
      if (url !== undefined) await checkUrl(url, mayBePrivate(deps, caller), deps.network);
      const events = flattened(body.events);
      await change(deps, caller, params.webhook_id, { url, name, events });
    },
  });

const newKeyRoute = (deps: WebhookRouteDeps): Route =>
  route({
    method: 'POST',
    path: `${ONE}/keys`,
    operation_id: 'generate_webhook_key',
    summary: 'Replace the secret: the new one signs from now on, and is shown now and never again',
    permissions: ['WRITE'],
    success: { status: 202, schema: { $ref: '#/components/schemas/WebhookPlainSecret' }, secret: true },
    handler: async ({ caller, params }) => {
      const shared_secret = newSecret();
      const secret = sealed(deps, shared_secret, { ...caller, id: params.webhook_id });
      await change(deps, caller, params.webhook_id, { secret });
      return { id: params.webhook_id, shared_secret };
    },
  });

const listRoute = ({ db }: WebhookRouteDeps): Route =>
  route({
    method: 'GET',
    path: '/organizations/{organization_id}/webhooks',
    operation_id: 'get_webhooks_as_user',
    summary: "List the webhooks of the key's environment; deleted ones only when asked for",
    permissions: READ,
    params: Type.Object({ organization_id: uuid() }),
    query: Type.Object({
      environment_ids: Type.Optional(Type.Array(uuid())),
      statuses: Type.Optional(Type.Array(Type.String({ enum: ['active', 'stopped', 'deleted'] }))),
      ...SORT,
    }),
    success: { status: 200, schema: { type: 'array', items: { $ref: '#/components/schemas/WebhookRead' } } },
    errors: ERRORS,
    handler: async ({ caller, query }) => {
      if (query.environment_ids?.every((id) => id.toLowerCase() !== caller.environment_id)) return [];
      const webhooks = await listWebhooks(db, caller, query.statuses ?? ['active', 'stopped'], query);
      return webhooks.map(webhookView);
    },
  });

/** start, stop and delete: each sets the status, and has no body. */
const switchTo =
  (
    method: 'POST' | 'DELETE',
    path: string,
    operation_id: string,
    summary: string,
    status: Webhook['status'],
  ) =>
  (deps: WebhookRouteDeps): Route =>
    route({
      method,
      path,
      operation_id,
      summary,
      permissions: ['WRITE'],
      success: { status: 202 },
      handler: ({ caller, params }) => change(deps, caller, params.webhook_id, { status }),
    });

/** The operations on registrations. */
export const registrationRoutes = (deps: WebhookRouteDeps): Route[] =>
  [
    listRoute,
    createRoute,
    getRoute,
    updateRoute,
    switchTo('DELETE', ONE, 'delete_webhook', 'Delete a webhook; what is open is abandoned', 'deleted'),
    switchTo(
      'POST',
      `${ONE}/start`,
      'start_webhook_as_user',
      'Deliver again, what was queued first',
      'active',
    ),
    switchTo('POST', `${ONE}/stop`, 'stop_webhook_as_user', 'Deliver nothing until it is started', 'stopped'),
    newKeyRoute,
  ].map((make) => make(deps));
