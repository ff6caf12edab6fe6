import { Type } from 'typebox';
import type { Database } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { FIRST_PLACE, readEvents } from '../core/events.ts';
import { routesWith, StreamAnswer, type Caller, type Route } from '../core/http.ts';
import { rawJson } from '../core/json.ts';
import { uint32, uuid } from '../core/schema.ts';
import type { Bodies } from './messages.ts';
import { passes, type EventFilter, type Hub } from './hub.ts';
import { eventsRemoved, placeId, placeNow, placeOf, refuseRemoved, type DatedPlace } from './place.ts';
import { EVENT_TYPES, EVENTS } from './rules.ts';

// The environment's events over HTTP, for who wants no webhook: a stream that resumes, or pages to poll. Both give
// places that go on where they end, and refuse one behind which something is gone: a client never skips unknowingly.

export interface EventRouteDeps {
  db: Database;
  hub: Hub;
  bodies: Bodies;
  config: { max_streams: number; max_streams_per_environment: number };
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;
/** Events looked at for one page, however few of them pass the filter. */
const MAX_SCANNED = 1000;
const STREAM = 'text/event-stream';

const types = EVENT_TYPES.filter((type) => type !== 'test').flatMap((type) => [
  type,
  ...EVENTS[type].map((event) => `${type}.${event}`),
]);
const route = routesWith({ tag: 'Events' });

const PAGE = Type.Object({
  items: Type.Array(
    Type.Object({ id: Type.String(), type: Type.String(), detail: Type.Unsafe({ type: 'object' }) }),
  ),
  next_after: Type.String(),
  has_more: Type.Boolean(),
});

/** The environment's events, as a stream that resumes or as pages to poll. */
export function eventRoutes(deps: EventRouteDeps): Route[] {
  const { db, hub } = deps;
  return [
    route({
      method: 'GET',
      path: '/organizations/{organization_id}/environments/{environment_id}/events',
      operation_id: 'get_events',
      summary:
        'Follow events: Server-Sent Events with Accept: text/event-stream, resumed by Last-Event-ID, or a page (ours)',
      permissions: ['READ', 'WRITE'],
      params: Type.Object({ organization_id: uuid(), environment_id: uuid() }),
      query: Type.Object({
        after: Type.Optional(
          Type.String({
            description:
              'The id of the last event that was seen. A stream without it starts with the next event, a page with the oldest kept',
          }),
        ),
        wallet_id: Type.Optional(uuid()),
        payment_id: Type.Optional(uuid()),
        types: Type.Optional(
          Type.Array(Type.String({ enum: types }), { description: 'receive, or receive.completed' }),
        ),
        limit: Type.Optional(
          uint32({ description: 'Of a page: default 100; more than 1000 is taken as 1000' }),
        ),
      }),
      success: { status: 200, schema: PAGE, also: [STREAM] },
      errors: { 400: 'ErrorResponse_AuthBadRequestError', 410: 'Envelope' },
      handler: async ({ caller, query, headers }) => {
        const filter: EventFilter = {
          wallet_id: query.wallet_id?.toLowerCase(),
          payment_id: query.payment_id?.toLowerCase(),
          types: query.types,
        };
        const streaming = String(headers['accept'] ?? '').includes(STREAM);
        const resumed = headers['last-event-id'];
        // A client that reconnects repeats its first URL: the header is the newer place.
        const given = streaming && typeof resumed === 'string' && resumed !== '' ? resumed : query.after;
        const after = given === undefined ? null : placeOf(given);
        if (after) await refuseRemoved(db, after);
        if (!streaming) return page(deps, caller, filter, after, query.limit);
        refuseTooMany(deps, caller);
        // Before the headers go out: what happens once the client has them is told.
        const from = after ?? (await placeNow(db));
        return new StreamAnswer(STREAM, (socket) => hub.open({ caller, filter, socket, after: from }));
      },
    }),
  ];
}

function refuseTooMany({ hub, config }: EventRouteDeps, caller: Caller): void {
  const refuse = (whose: string, most: number): never => {
    throw new ApiError('temporarily_unavailable', `${whose} has ${most} streams open here`);
  };
  if (hub.count() >= config.max_streams) refuse('this server', config.max_streams);
  if (hub.count(caller) >= config.max_streams_per_environment)
    refuse('this environment', config.max_streams_per_environment);
}

async function page(
  { db, bodies }: EventRouteDeps,
  caller: Caller,
  filter: EventFilter,
  given: DatedPlace | null,
  asked = DEFAULT_LIMIT,
) {
  const limit = Math.min(asked, MAX_LIMIT);
  const after = given ?? FIRST_PLACE;
  if (limit === 0) return pageJson([], placeId(after, (given ?? (await placeNow(db))).epoch), false);
  const filtered = Object.values(filter).some((wanted) => wanted !== undefined);
  const read = await readEvents(db, after, caller, filtered ? MAX_SCANNED : limit);
  // Removed since it was looked at before. From the first place on: whatever is kept.
  if (given && (read.removed || read.epoch !== given.epoch)) throw eventsRemoved();
  const found = read.events.filter((event) => passes(filter, event));
  const items = found.slice(0, limit);
  const last = items.at(-1);
  const cut = found.length > items.length && last !== undefined;
  return pageJson(
    // Its id, then the webhook's body, spliced in as it is.
    items.map(
      (event) => `{"id":${JSON.stringify(placeId(event, read.epoch))},${bodies.ofEvent(event).slice(1)}`,
    ),
    placeId(cut ? last : read.next, read.epoch),
    cut || read.has_more,
  );
}

const pageJson = (items: readonly string[], next_after: string, has_more: boolean) =>
  rawJson(`{"items":[${items.join(',')}],"next_after":${JSON.stringify(next_after)},"has_more":${has_more}}`);
