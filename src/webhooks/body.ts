import type { StoredEvent } from '../core/events.ts';
import type { Delivery } from './deliveries.ts';

/** Shows a payment as the API shows it, from the row that an event keeps: JSON text to JSON text. The slice of payments gives it. */
export type ShowPayment = (row: string) => string;

/** What goes out: the event's name, and the bytes. */
export interface Message {
  event: string;
  body: string;
}

export interface Bodies {
  /** The webhook's body of an event. */
  ofEvent(event: StoredEvent): string;
  /** What a delivery sends: its event, or the payload that the client gave. */
  of(delivery: Pick<Delivery, 'payload'>, event: StoredEvent | null): Message;
}

/** What is shown of a delivery whose event was removed; it is never sent. */
const GONE = '{"type":"test","detail":{"event":"created","data":"the event is not kept any more"}}';

export function createBodies(show: ShowPayment): Bodies {
  const ofEvent = ({ type, event, payment }: StoredEvent): string =>
    `{"type":"${type}","detail":{"event":"${event}","data":${show(payment)}}}`;
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
