import { parseJson, rawJson } from '../core/json.ts';
import type { StoredEvent } from '../core/events.ts';
import type { Bodies } from './body.ts';
import type { Delivery } from './deliveries.ts';
import { shownEvents } from './rules.ts';
import type { Webhook } from './store.ts';

/** A registration as the contract shows it (schema `WebhookRead`): never a secret. */
export const webhookView = (webhook: Webhook): object => ({
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

/** A delivery as the contract shows it (schema `WebhookDeliveryRead`). */
export const deliveryView = (delivery: Delivery, payload: string): object => ({
  id: delivery.id,
  webhook_id: delivery.webhook_id,
  organization_id: delivery.organization_id,
  url: delivery.url,
  status: delivery.status,
  payload: parseJson(payload),
  created_at: delivery.created_at,
  updated_at: delivery.updated_at,
  attempt_count: delivery.attempt_count,
  error: delivery.error_info?.detail ?? null,
  error_info: delivery.error_info,
  status_code: delivery.status_code,
});

/** One event of the JSON page: its id, then the webhook's body, spliced in as it is. */
export const eventJson = (bodies: Bodies, id: string, event: StoredEvent): string =>
  `{"id":${JSON.stringify(id)},${bodies.ofEvent(event).slice(1)}`;

/** A page of events as JSON text. */
export const eventsJson = (items: readonly string[], next_after: string, has_more: boolean) =>
  rawJson(`{"items":[${items.join(',')}],"next_after":${JSON.stringify(next_after)},"has_more":${has_more}}`);
