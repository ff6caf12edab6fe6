import { ApiError } from '../core/errors.ts';
import { originFault, type Network } from './target.ts';

// What may be registered. Pure, but for the look at where a name leads; the contract's forms are turned into the one in
// which subscriptions are stored and matched, and back.

/** Every event there is, as `type.event`. */
export const EVENTS = {
  send: ['succeeded', 'failed'],
  receive: ['generated', 'detected', 'refreshed', 'expired', 'succeeded', 'completed', 'failed'],
  test: ['created'],
} as const;
export type EventType = keyof typeof EVENTS;
export const EVENT_TYPES = Object.keys(EVENTS) as EventType[];

/** Subscriptions as requests write them: one event, or several, under its type. */
export type Subscription = Partial<Record<EventType, string | string[]>>;

/** Subscriptions as they are stored: `type.event`, each once, in the order given. */
export const flattened = (events: readonly Subscription[]): string[] => [
  ...new Set(
    events.flatMap((entry) =>
      EVENT_TYPES.flatMap((type) => [entry[type] ?? []].flat().map((event) => `${type}.${event}`)),
    ),
  ),
];

/** The contract's form of stored subscriptions. */
export const shownEvents = (events: readonly string[]): object[] =>
  events.map((name) => {
    const [type = '', event = ''] = name.split('.');
    return { [type]: event };
  });

const MAX_URL = 2048;
const MAX_NAME = 256;

export const invalid = (detail: string): ApiError => new ApiError('invalid_webhook', detail);

export function checkName(name: string): void {
  if (name.length > MAX_NAME) throw invalid(`name: at most ${MAX_NAME} characters`);
}

/** Refuses a URL that would never be called; the address behind a name is judged again at every connection. */
export async function checkUrl(text: string, allow_private: boolean, network: Network): Promise<void> {
  if (text.length > MAX_URL) throw invalid(`url: at most ${MAX_URL} characters`);
  if (!URL.canParse(text)) throw invalid('url: not a URL');
  const url = new URL(text);
  const fault = faultOf(url, allow_private);
  if (fault !== null) throw invalid(`url: ${fault}`);
  const blocked = allow_private ? null : await network.blocked(url.hostname);
  if (blocked !== null) throw invalid(`url: ${blocked}`);
}

/** What is wrong with a URL by its looks, or null. */
function faultOf(url: URL, allow_private: boolean): string | null {
  if (url.username !== '' || url.password !== '') return 'must not hold credentials';
  if (!allow_private) return originFault(url);
  return ['https:', 'http:'].includes(url.protocol) ? null : 'must be https';
}
