import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';

type Json = Record<string, unknown>;
interface Operation {
  operationId: string;
  responses: Record<string, { content?: Record<string, { schema: Json }> }>;
}
interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Json> };
}

export const contract = JSON.parse(
  readFileSync(new URL('../contract/openapi.json', import.meta.url), 'utf8'),
) as Document;

/**
 * `oneOf` as "at least one": read literally, some unions of the published document match two branches.
 * Integers may be bigint, where a double would round them.
 */
function relaxed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(relaxed);
  if (typeof schema !== 'object' || schema === null) return schema;
  const out: Json = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === 'discriminator' || key.startsWith('x-') || key === 'example' || key === 'examples') continue;
    out[key === 'oneOf' ? 'anyOf' : key] = relaxed(value);
  }
  const types = [out['type']].flat();
  if (types.includes('integer')) {
    delete out['type'];
    const others = types.filter((type) => type !== 'integer');
    return { anyOf: [{ ...out, wireInteger: true }, ...others.map((type) => ({ type }))] };
  }
  return out;
}

function newAjv(document: Document): Ajv2020 {
  // Most of what a test file costs was compiling: no schema of schemas, each schema once, and code that need not be
  // the fastest.
  const ajv = new Ajv2020({
    strict: false,
    allErrors: false,
    meta: false,
    validateSchema: false,
    inlineRefs: false,
    code: { optimize: false },
  });
  for (const format of ['uuid', 'date-time']) {
    ajv.addFormat(format, (text: string) => (format === 'uuid' ? /^[0-9a-f-]{36}$/ : RFC3339).test(text));
  }
  for (const format of [
    'int64',
    'u-int8',
    'u-int16',
    'u-int32',
    'u-int64',
    'rate',
    'binary',
    'uri',
    'int32',
    'double',
  ]) {
    ajv.addFormat(format, true);
  }
  ajv.addKeyword({
    keyword: 'wireInteger',
    validate: (_on: boolean, value: unknown) => typeof value === 'bigint' || Number.isInteger(value),
  });
  ajv.addSchema({ $id: 'document', components: { schemas: relaxed(document.components.schemas) } });
  return ajv;
}
// Every time we write has microseconds and Z.
const RFC3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/;

const refsToDocument = (schema: unknown): unknown =>
  JSON.parse(JSON.stringify(relaxed(schema)).replaceAll('"#/components/', '"document#/components/'));

/** Checks answers against a document; answers why one does not fit, or null. */
export function createValidator(
  document: Document,
): (method: string, path: string, status: number, body: unknown) => string | null {
  const ajv = newAjv(document);
  const compiled = new Map<object, ValidateFunction>();
  const patterns = Object.entries(document.paths).map(([path, operations]) => ({
    pattern: new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
    // A literal segment wins over a parameter.
    parameters: path.split('{').length,
    operations,
  }));
  patterns.sort((a, b) => a.parameters - b.parameters);
  return (method, path, status, body) => {
    const operation = patterns.find(
      ({ pattern, operations }) => pattern.test(path) && operations[method.toLowerCase()],
    )?.operations[method.toLowerCase()];
    if (!operation) return `no operation ${method} ${path}`;
    const response = operation.responses[String(status)];
    if (!response) return `${operation.operationId} has no status ${status}`;
    const schema = response.content?.['application/json']?.schema;
    if (!schema) return body === undefined ? null : `${operation.operationId} ${status} has no body`;
    let validate = compiled.get(schema);
    if (!validate) compiled.set(schema, (validate = ajv.compile(refsToDocument(schema) as object)));
    return validate(body)
      ? null
      : `${operation.operationId} ${status}: ${ajv.errorsText(validate.errors)}\n${String(body)}`;
  };
}

/** Statuses beyond the contract's that are ours, on any operation (semantics.md section 1). */
const OURS = new Set([503, 404, 405, 413, 415, 422, 409]);

const againstContract = createValidator(contract);

/** Fails unless an answer fits the contract, or the server's own document where the contract has no such operation. */
export async function assertFits(
  readOwn: () => Promise<ReturnType<typeof createValidator> | null>,
  method: string,
  path: string,
  status: number,
  body: unknown,
): Promise<void> {
  const fault = againstContract(method, path, status, body);
  if (fault === null) return;
  const known = !fault.startsWith('no operation');
  if (OURS.has(status) && (!known || fault.includes('has no status'))) {
    const error = (body as { error?: { type?: unknown; detail?: unknown } } | undefined)?.error;
    assert.ok(
      typeof error?.type === 'string' && typeof error.detail === 'string',
      `not an error envelope: ${fault}`,
    );
    return;
  }
  const own = known ? null : await readOwn();
  if (own) {
    const own_fault = own(method, path, status, body);
    assert.equal(own_fault, null, `${method} ${path}: ${own_fault}`);
    return;
  }
  assert.fail(`${method} ${path}: ${fault}`);
}
