import { contract } from './core/contract.ts';
import type { Route } from './core/http.ts';

type Json = Record<string, unknown>;

const ALWAYS: Record<number, string> = {
  400: 'ErrorResponse_AuthBadRequestError',
  401: 'ErrorResponse_AuthUnauthorizedError',
  403: 'ErrorResponse_AuthForbiddenError',
  500: 'ErrorResponse_InternalServerError',
  503: 'ErrorResponse_InternalServerError',
};
const WITH_BODY: Record<number, string> = {
  413: 'ErrorResponse_JsonPayloadTooLargeError',
  415: 'ErrorResponse_JsonUnsupportedMediaTypeError',
  422: 'ErrorResponse_JsonUnprocessableEntityError',
};
const MEANING: Record<number, string> = {
  200: 'OK',
  202: 'Accepted, processed asynchronously; no body',
  400: 'Refused: malformed, or against the rules',
  401: 'Authentication failed',
  403: 'Not allowed',
  404: 'Not found',
  409: 'The id exists',
  410: 'Gone: what comes next was removed; start again without a place',
  413: 'Body too large',
  415: 'Body is not JSON',
  422: 'Body does not have the required shape',
  500: 'Unexpected fault; the detail carries a reference',
  503: 'Temporarily unavailable; see retry-after',
};

const named = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });
const json = (schema: unknown): Json => ({ 'application/json': { schema } });

const contentOf = (schema: unknown, also: readonly string[]): Json => ({
  ...json(schema),
  ...Object.fromEntries(also.map((type) => [type, { schema: { type: 'string' } }])),
});

const envelope: Json = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['type', 'detail'],
      properties: { type: { type: 'string' }, detail: { type: 'string' } },
    },
  },
};

function responsesOf(route: Route): Json {
  const errors: Record<number, string> = { ...ALWAYS, ...(route.body ? WITH_BODY : {}), ...route.errors };
  const responses: Json = {};
  for (const [status, name] of Object.entries(errors)) {
    const schema = contract.components.schemas[name] ? named(name) : envelope;
    responses[status] = { description: MEANING[Number(status)] ?? '', content: json(schema) };
  }
  const { status, schema, also = [] } = route.success;
  responses[status] = {
    description: MEANING[status] ?? '',
    ...(schema ? { content: contentOf(schema, also) } : {}),
  };
  return responses;
}

function parametersOf(route: Route): Json[] {
  const required = new Set((route.params as { required?: string[] }).required);
  const path = Object.entries(route.params.properties as Record<string, Json>).map(([name, schema]) => ({
    name,
    in: 'path',
    required: required.has(name),
    schema,
  }));
  const query = Object.entries(route.query.properties as Record<string, Json>).map(([name, schema]) => ({
    name,
    in: 'query',
    required: false,
    ...(typeof schema['description'] === 'string' ? { description: schema['description'] } : {}),
    ...(schema['deprecated'] === true ? { deprecated: true } : {}),
    ...(schema['type'] === 'object' ? { style: 'deepObject', explode: true } : {}),
    schema,
  }));
  const idempotency = {
    name: 'Idempotency-Key',
    in: 'header',
    required: false,
    description: 'The same request with the same key gets the stored answer for 24 hours (ours)',
    schema: { type: 'string', minLength: 1, maxLength: 255 },
  };
  return [...path, ...query, ...(route.method === 'POST' ? [idempotency] : [])];
}

const shownBody = (route: Route): unknown => (route.body_shown ? named(route.body_shown) : route.body);

function operationOf(route: Route): Json {
  return {
    operationId: route.operation_id,
    tags: [route.tag],
    summary: route.summary,
    parameters: parametersOf(route),
    ...(route.body
      ? { requestBody: { required: !route.body_optional, content: json(shownBody(route)) } }
      : {}),
    responses: responsesOf(route),
    security: [{ api_key: [] }, { bearer_token: [] }],
  };
}

function collectRefs(value: unknown, into: Set<string>): void {
  if (Array.isArray(value)) return value.forEach((member) => collectRefs(member, into));
  if (typeof value !== 'object' || value === null) return;
  for (const [key, member] of Object.entries(value)) {
    const name = key === '$ref' && typeof member === 'string' ? (member.split('/').at(-1) ?? '') : null;
    if (name === null) {
      collectRefs(member, into);
    } else if (!into.has(name)) {
      into.add(name);
      collectRefs(contract.components.schemas[name], into);
    }
  }
}

/** The contract's `x-fact` is what a reader of the reference looks for in `description`. */
function describe(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(describe);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [
      key === 'x-fact' && typeof member === 'string' ? 'description' : key,
      describe(member),
    ]),
  );
}

/** The OpenAPI 3.1 document of these routes. */
export function buildDocument(routes: readonly Route[], public_url: string | null): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const operations = (paths[route.path] ??= {});
    operations[route.method.toLowerCase()] = operationOf(route);
  }
  const used = new Set<string>();
  collectRefs(paths, used);
  const schemas = [...used].sort().map((name) => [name, describe(contract.components.schemas[name])]);
  return {
    openapi: '3.1.0',
    info: {
      title: 'Coulomb',
      version: '0.1.0',
      description: 'Self-hosted payments for Bitcoin and Lightning, speaking the Voltage Payments API.',
    },
    servers: [{ url: `${public_url ?? ''}/v1` }],
    tags: [...new Set(routes.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: Object.fromEntries(schemas),
      securitySchemes: contract.components.securitySchemes,
    },
  };
}
