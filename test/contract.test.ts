import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contract, createValidator } from './contract.ts';
import { openServer } from './setup.ts';

type Json = Record<string, unknown>;
interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  schema: Json;
}
interface Operation {
  operationId: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema: Json }> };
  responses: Record<string, { content?: Record<string, { schema: Json }> }>;
}
interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Json> };
}

const { server } = await openServer();
const served = (await (await fetch(server.base_url.replace('/v1', '/openapi.json'))).json()) as Document;

const SERVED_OPERATIONS = 36;
const METHODS = ['get', 'post', 'patch', 'put', 'delete'];

function* operations(document: Document): Generator<[path: string, method: string, operation: Operation]> {
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const method of METHODS) if (methods[method]) yield [path, method, methods[method]];
  }
}
const pairs = (): [string, Operation, Operation][] =>
  [...operations(contract as unknown as Document)].flatMap(([path, method, wanted]) => {
    const own = served.paths[path]?.[method];
    return own ? [[wanted.operationId, wanted, own] as [string, Operation, Operation]] : [];
  });

/** A schema with references followed, as far as requests need it. */
const resolve = (document: Document, schema: Json): Json => {
  const ref = schema['$ref'];
  return typeof ref === 'string'
    ? resolve(document, document.components.schemas[ref.split('/').at(-1) ?? ''] ?? {})
    : schema;
};
const variants = (document: Document, schema: Json): Json[] => {
  const found = resolve(document, schema);
  const members = (found['oneOf'] ?? found['anyOf']) as Json[] | undefined;
  return members ? members.flatMap((member) => variants(document, member)) : [found];
};
const typesOf = (schema: Json): unknown[] => [schema['type']].flat();

/** Why `own` accepts less than `wanted`, or null. Only what requests of the contract use. */
function narrower(wanted_schema: Json, own_schema: Json, at: string): string | null {
  const [wanted_all, own_all] = [
    variants(contract as unknown as Document, wanted_schema).filter((schema) => schema['type'] !== 'null'),
    variants(served, own_schema),
  ];
  for (const wanted of wanted_all) {
    const faults = own_all.map((own) => narrowerOne(wanted, own, at));
    if (!faults.includes(null)) return faults.find((fault) => fault !== null) ?? `${at}: nothing accepts it`;
  }
  return null;
}

function narrowerOne(wanted: Json, own: Json, at: string): string | null {
  const missing = typesOf(wanted).filter(
    (type) => type !== 'null' && own['type'] !== undefined && !typesOf(own).includes(type),
  );
  if (missing.length > 0) return `${at}: type ${missing.join()} is not accepted`;
  const [wanted_enum, own_enum] = [
    wanted['enum'] as unknown[] | undefined,
    own['enum'] as unknown[] | undefined,
  ];
  if (own_enum && !(wanted_enum ?? []).every((value) => own_enum.includes(value)))
    return `${at}: enum is narrower`;
  if (own_enum && !wanted_enum) return `${at}: enum where the contract has none`;
  for (const [key, widest] of [
    ['minimum', -Infinity],
    ['minLength', 0],
  ] as const) {
    if (Number(own[key] ?? widest) > Number(wanted[key] ?? widest)) return `${at}: ${key} is narrower`;
  }
  const required = (own['required'] ?? []) as string[];
  const stricter = required.filter((name) => !((wanted['required'] ?? []) as string[]).includes(name));
  if (stricter.length > 0) return `${at}: requires ${stricter.join()}`;
  const own_properties = (own['properties'] ?? {}) as Record<string, Json>;
  for (const [name, property] of Object.entries((wanted['properties'] ?? {}) as Record<string, Json>)) {
    if (!own_properties[name]) return `${at}.${name} is not in our document`;
    const fault = narrower(property, own_properties[name], `${at}.${name}`);
    if (fault !== null) return fault;
  }
  return null;
}

test('the served document is OpenAPI 3.1 with every reference resolved', () => {
  assert.equal(served.openapi, '3.1.0');
  for (const [, ref] of JSON.stringify(served).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
    assert.ok(served.components.schemas[ref ?? ''], `no schema ${ref}`);
  }
});

test('all operations of the contract that this version promises are served', () => {
  assert.equal(pairs().length, SERVED_OPERATIONS);
});

test('no parameter of the contract is missing, required where it was not, or narrower', () => {
  for (const [name, wanted, own] of pairs()) {
    for (const parameter of wanted.parameters ?? []) {
      const ours = own.parameters?.find((one) => one.name === parameter.name && one.in === parameter.in);
      assert.ok(ours, `${name}: parameter ${parameter.name}`);
      assert.ok(!ours.required || parameter.required, `${name}: ${parameter.name} is required`);
      assert.equal(narrower(parameter.schema, ours.schema, `${name} ${parameter.name}`), null);
    }
  }
});

test('no request of the contract is refused by our schemas', () => {
  for (const [name, wanted, own] of pairs()) {
    const schema = wanted.requestBody?.content['application/json']?.schema;
    if (!schema) continue;
    const ours = own.requestBody?.content['application/json']?.schema;
    assert.ok(ours, `${name}: request body`);
    assert.equal(narrower(schema, ours, name), null);
  }
});

test('every response status of the contract is there with its schema', () => {
  for (const [name, wanted, own] of pairs()) {
    for (const [status, response] of Object.entries(wanted.responses)) {
      const ours = own.responses[status];
      assert.ok(ours, `${name}: status ${status}`);
      const schema = response.content?.['application/json']?.schema;
      if (schema) assert.deepEqual(ours.content?.['application/json']?.schema, schema, `${name} ${status}`);
    }
  }
});

test('the validator of the test client refuses what the contract does not have', () => {
  const validate = createValidator(contract);
  const path = '/organizations/x/wallets/y';
  assert.notEqual(validate('GET', path, 200, { id: 'x' }), null);
  assert.notEqual(validate('GET', path, 418, {}), null);
  const error = { error: { type: 'made_up', detail: 'x' } };
  assert.notEqual(validate('GET', path, 401, error), null);
  assert.equal(validate('GET', path, 401, { error: { type: 'wrong_credentials', detail: 'x' } }), null);
});
