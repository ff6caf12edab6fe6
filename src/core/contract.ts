import { readFileSync } from 'node:fs';
import { checkOf, type Check } from './schema.ts';

type Json = Record<string, unknown>;

/** The published contract. Response schemas are its own: our document cannot be narrower than it. */
export const contract = JSON.parse(
  readFileSync(new URL('../../contract/openapi.json', import.meta.url), 'utf8'),
) as { components: { schemas: Record<string, Json>; securitySchemes: Json } };

const REF = '#/components/schemas/';

/** `oneOf` as "at least one": read literally, some unions of the published document match two branches. */
function relaxed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(relaxed);
  if (typeof schema !== 'object' || schema === null) return schema;
  const kept = Object.entries(schema).filter(([key]) => key !== 'discriminator' && !key.startsWith('x-'));
  return Object.fromEntries(
    kept.map(([key, value]) => [
      key === 'oneOf' ? 'anyOf' : key,
      key === '$ref' ? String(value).replace(REF, '#/$defs/') : relaxed(value),
    ]),
  );
}

/** The check against a schema of the contract; what clients read from us later must fit it. Compiled when first used. */
export function checkOfContract(name: string): Check {
  let check: Check | null = null;
  return (value) => {
    check ??= checkOf({ $ref: `#/$defs/${name}`, $defs: relaxed(contract.components.schemas) } as object);
    return check(value);
  };
}
