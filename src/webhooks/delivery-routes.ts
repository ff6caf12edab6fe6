import { Type } from 'typebox';
import { checkOfContract } from '../core/contract.ts';
import { ApiError } from '../core/errors.ts';
import { type Caller, type Route } from '../core/http.ts';
import { parseJson } from '../core/json.ts';
import { dateTime, uint32, uuid } from '../core/schema.ts';
import {
  abandon,
  beginAgain,
  countDeliveries,
  insertTest,
  listDeliveries,
  readDelivery,
  type Delivery,
} from './deliveries.ts';
import { eventsOf, type Bodies } from './messages.ts';
import { ONE, PARAMS, READ, route, SORT, unknownWebhook, webhookOf } from './routes.ts';
import type { WebhookRouteDeps } from './routes.ts';
import { EVENT_TYPES, EVENTS, invalid } from './rules.ts';
import { DELIVERY_STATUSES } from './states.ts';

// Deliveries over HTTP: looked at, given up, begun again. Nothing is sent by a request: it changes rows, and rings.

export interface DeliveryRouteDeps extends WebhookRouteDeps {
  bodies: Bodies;
  /** Signs list cursors; shared by all processes of a deployment. */
  cursor_secret: Buffer;
}

const DELIVERY_PARAMS = Type.Object({ ...PARAMS.properties, delivery_id: uuid() });
const STATUSES = Type.Optional(Type.Array(Type.String({ enum: [...DELIVERY_STATUSES] })));

const TestPayload = Type.Union(
  EVENT_TYPES.map((type) =>
    Type.Object({
      type: Type.Literal(type),
      detail: Type.Object({
        event: Type.String({ enum: [...EVENTS[type]] }),
        data: type === 'test' ? Type.String() : Type.Object({}),
      }),
    }),
  ),
);
// The payment in it may be the client's own invention, but the delivery that shows it must be readable.
const checkPayload = checkOfContract('Payload');
const MOST_FAULTS = 5;

function refuseMisshapen(payload: unknown): void {
  const faults = checkPayload(payload).slice(0, MOST_FAULTS);
  if (faults.length > 0) throw new ApiError('invalid_data', `payload: ${faults.join('; ')}`);
}
const TestRequest = Type.Object({ delivery_id: uuid(), payload: TestPayload });

const unknownDelivery = (webhook_delivery_id: string): ApiError =>
  new ApiError('webhook_delivery_not_found', `no delivery ${webhook_delivery_id}`, {
    context: { webhook_delivery_id },
  });

/** The operations on deliveries. */
export const deliveryRoutes = (deps: DeliveryRouteDeps): Route[] =>
  [listRoute, summaryRoute, getRoute, testRoute, abandonRoute, retryRoute, retryManyRoute].map((route) =>
    route(deps),
  );

/** Deliveries as the contract shows them (schema `WebhookDeliveryRead`). */
async function shown({ db, bodies }: DeliveryRouteDeps, deliveries: readonly Delivery[]): Promise<object[]> {
  const events = await eventsOf(db, deliveries);
  return deliveries.map((delivery) => ({
    id: delivery.id,
    webhook_id: delivery.webhook_id,
    organization_id: delivery.organization_id,
    url: delivery.url,
    status: delivery.status,
    payload: parseJson(bodies.of(delivery, events.get(delivery.seq) ?? null).body),
    created_at: delivery.created_at,
    updated_at: delivery.updated_at,
    attempt_count: delivery.attempt_count,
    error: delivery.error_info?.detail ?? null,
    error_info: delivery.error_info,
    status_code: delivery.status_code,
  }));
}

/** A registration that can still deliver. */
async function live(deps: DeliveryRouteDeps, caller: Caller, webhook_id: string) {
  const webhook = await webhookOf(deps, caller, webhook_id);
  if (webhook.status === 'deleted') throw unknownWebhook(webhook_id);
  return webhook;
}

const listRoute = (deps: DeliveryRouteDeps): Route =>
  route({
    method: 'GET',
    path: `${ONE}/deliveries`,
    operation_id: 'get_webhook_deliveries_as_user',
    summary: "List a webhook's deliveries, by cursor or by offset",
    permissions: READ,
    query: Type.Object({
      statuses: STATUSES,
      ...SORT,
      cursor: Type.Optional(Type.String({ description: 'next_cursor of the page before' })),
      pagination: Type.Optional(Type.String({ enum: ['offset', 'cursor'] })),
      limit: Type.Optional(uint32({ description: 'Default 100; more than 1000 is taken as 1000' })),
      offset: Type.Optional(uint32({ deprecated: true, description: 'Replaced by cursors' })),
    }),
    success: { status: 200, schema: { $ref: '#/components/schemas/WebhookDeliveries' } },
    handler: async ({ caller, params, query }) => {
      const webhook = await webhookOf(deps, caller, params.webhook_id);
      const { deliveries, ...page } = await listDeliveries(deps.db, deps.cursor_secret, webhook, query);
      return { items: await shown(deps, deliveries), ...page };
    },
  });

const summaryRoute = (deps: DeliveryRouteDeps): Route =>
  route({
    method: 'GET',
    path: `${ONE}/deliveries/summary`,
    operation_id: 'get_webhook_delivery_summary_as_user',
    summary: "Count a webhook's deliveries; an estimate where there are very many",
    permissions: READ,
    query: Type.Object({ statuses: STATUSES }),
    success: { status: 200, schema: { $ref: '#/components/schemas/WebhookDeliverySummary' } },
    handler: async ({ caller, params, query }) => {
      const webhook = await webhookOf(deps, caller, params.webhook_id);
      const { count, exact } = await countDeliveries(deps.db, webhook, query.statuses);
      return {
        webhook_id: webhook.id,
        statuses: query.statuses ?? [],
        total_count: count,
        total_count_accuracy: exact ? 'exact' : 'estimated',
      };
    },
  });

const getRoute = (deps: DeliveryRouteDeps): Route =>
  route({
    method: 'GET',
    path: `${ONE}/deliveries/{delivery_id}`,
    operation_id: 'get_webhook_delivery',
    summary: 'Read one delivery',
    permissions: READ,
    params: DELIVERY_PARAMS,
    success: { status: 200, schema: { $ref: '#/components/schemas/WebhookDeliveryRead' } },
    handler: async ({ caller, params }) => {
      const webhook = await webhookOf(deps, caller, params.webhook_id);
      const delivery = await readDelivery(deps.db, webhook, params.delivery_id);
      if (!delivery) throw unknownDelivery(params.delivery_id);
      return (await shown(deps, [delivery]))[0];
    },
  });

const testRoute = (deps: DeliveryRouteDeps): Route =>
  route({
    method: 'POST',
    path: `${ONE}/test`,
    operation_id: 'test_webhook',
    summary: 'Deliver a payload of your own to this webhook',
    permissions: ['WRITE'],
    body: TestRequest,
    body_shown: 'TestWebhookRequest',
    // A payment has fields that are null, and what is delivered is what the client wrote.
    keeps_nulls: true,
    success: { status: 202 },
    handler: async ({ caller, params, body }) => {
      const { type } = body.payload as { type: string };
      if (type !== 'test' && caller.environment_kind === 'production') {
        throw invalid('payload: in production only type test, so that no false order is signed');
      }
      refuseMisshapen(body.payload);
      const webhook = await live(deps, caller, params.webhook_id);
      const test = { id: body.delivery_id.toLowerCase(), payload: body.payload };
      if (!(await insertTest(deps.db, webhook, test, deps.time()))) {
        throw invalid(`delivery_id: delivery ${test.id} exists`);
      }
      deps.changed();
    },
  });

const abandonRoute = (deps: DeliveryRouteDeps): Route =>
  route({
    method: 'POST',
    path: `${ONE}/deliveries/{delivery_id}/abandon`,
    operation_id: 'abandon_webhook_delivery',
    summary: 'Give a delivery up',
    permissions: ['WRITE'],
    params: DELIVERY_PARAMS,
    success: { status: 202 },
    handler: async ({ caller, params }) => {
      const webhook = await webhookOf(deps, caller, params.webhook_id);
      if (await abandon(deps.db, webhook, params.delivery_id, deps.time())) return deps.changed();
      const delivery = await readDelivery(deps.db, webhook, params.delivery_id);
      if (!delivery) throw unknownDelivery(params.delivery_id);
      if (delivery.status !== 'abandoned') throw invalid(`delivery ${delivery.id} has ${delivery.status}`);
    },
  });

const retryRoute = (deps: DeliveryRouteDeps): Route =>
  route({
    method: 'POST',
    path: `${ONE}/deliveries/{delivery_id}/retry`,
    operation_id: 'retry_webhook_delivery',
    summary: 'Deliver again now, whatever became of it, with the whole schedule of attempts',
    permissions: ['WRITE'],
    params: DELIVERY_PARAMS,
    success: { status: 202 },
    handler: async ({ caller, params }) => {
      const webhook = await live(deps, caller, params.webhook_id);
      const again = await beginAgain(deps.db, webhook, { id: params.delivery_id }, deps.time());
      if (again === 0) throw unknownDelivery(params.delivery_id);
      deps.changed();
    },
  });

/** Deliveries begun again per call; the answer says when there are more. */
const RETRY_LIMIT = 10_000;

const retryManyRoute = (deps: DeliveryRouteDeps): Route =>
  route({
    method: 'POST',
    path: `${ONE}/deliveries/retry`,
    operation_id: 'retry_webhook_deliveries',
    summary: 'Deliver again all that failed since a time (ours)',
    permissions: ['WRITE'],
    body: Type.Object({
      since: dateTime({ description: 'When the deliveries were made' }),
      statuses: Type.Optional(
        Type.Array(Type.String({ enum: ['failed', 'abandoned'] }), { description: 'Default failed' }),
      ),
    }),
    success: {
      status: 202,
      schema: Type.Object({ retried: Type.Integer(), has_more: Type.Boolean() }),
    },
    handler: async ({ caller, params, body }) => {
      const webhook = await live(deps, caller, params.webhook_id);
      const { since, statuses = ['failed'] } = body;
      const which = { since, statuses, limit: RETRY_LIMIT };
      const retried = await beginAgain(deps.db, webhook, which, deps.time());
      if (retried > 0) deps.changed();
      return { retried, has_more: retried === RETRY_LIMIT };
    },
  });
