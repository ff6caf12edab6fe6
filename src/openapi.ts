import { contract } from './core/contract.ts';
import type { Route } from './core/http.ts';

// The document at /openapi.json: made of the routes that are served, so it shows none that is not there, with the
// schemas of the contract that they name.

type Json = Record<string, unknown>;

/** What every operation may answer: a route names only what it has beside these. */
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

/** A reference to a schema of the contract. */
const named = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });
const json = (schema: unknown): Json => ({ 'application/json': { schema } });

/** Where the contract has no such error: routes of ours. */
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
  const others = Object.fromEntries(also.map((type) => [type, { schema: { type: 'string' } }]));
  responses[status] = {
    description: MEANING[status] ?? '',
    ...(schema ? { content: { ...json(schema), ...others } } : {}),
  };
  return responses;
}

function parametersOf(route: Route): Json[] {
  const path = Object.entries(route.params.properties as Record<string, Json>).map(([name, schema]) => ({
    name,
    in: 'path',
    required: true,
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

function operationOf(route: Route): Json {
  const body = route.body_shown ? named(route.body_shown) : route.body;
  return {
    operationId: route.operation_id,
    tags: [route.tag],
    summary: route.summary,
    parameters: parametersOf(route),
    ...(body ? { requestBody: { required: !route.body_optional, content: json(body) } } : {}),
    responses: responsesOf(route),
    // As the contract has them; a bearer token is refused until an issuer of them can be configured.
    security: [{ api_key: [] }, { bearer_token: [] }],
  };
}

/**
 * Adds the names of the schemas that a value refers to, by itself or through another one; those of a circle once. The
 * contract has many that no route of ours names.
 */
function addRefs(value: unknown, names: Set<string>): void {
  for (const [, name = ''] of JSON.stringify(value).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) {
    if (names.has(name)) continue;
    names.add(name);
    addRefs(contract.components.schemas[name], names);
  }
}

/** The OpenAPI 3.1 document of these routes. */
export function buildDocument(routes: readonly Route[], public_url: string | null): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const operations = (paths[route.path] ??= {});
    operations[route.method.toLowerCase()] = operationOf(route);
  }
  const used = new Set<string>();
  addRefs(paths, used);
  const schemas = [...used].sort().map((name) => [name, contract.components.schemas[name]]);
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
