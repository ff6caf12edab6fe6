import type { StoredEvent } from '../core/events.ts';
import type { Delivery } from './deliveries.ts';

/** Shows a payment's row as the API shows it: JSON text. The slice of payments gives it. */
export type ShowPayment = (row: Record<string, unknown>) => string;

export interface Bodies {
  /** The webhook's body of an event; rendered once. */
  ofEvent(event: StoredEvent): string;
  /** What a delivery sends: its event, or the payload that the client gave. */
  of(delivery: Pick<Delivery, 'payload'>, event: StoredEvent | null): { event: string; body: string };
}

/** What is shown of a delivery whose event was removed; it is never sent. */
const GONE = '{"type":"test","detail":{"event":"created","data":"the event is not kept any more"}}';

export function createBodies(show: ShowPayment): Bodies {
  const rendered = new WeakMap<StoredEvent, string>();
  const ofEvent = (event: StoredEvent): string => {
    const known = rendered.get(event);
    if (known !== undefined) return known;
    const body = `{"type":"${event.type}","detail":{"event":"${event.event}","data":${show(event.payment)}}}`;
    rendered.set(event, body);
    return body;
  };
  return {
    ofEvent,
    of({ payload }, event) {
      if (event) return { event: event.event, body: ofEvent(event) };
      const body = payload ?? GONE;
      const { detail } = JSON.parse(body) as { detail?: { event?: string } };
      return { event: detail?.event ?? '', body };
    },
  };
}
