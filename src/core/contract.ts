import { readFileSync } from 'node:fs';
import { faultsIn } from './schema.ts';

type Json = Record<string, unknown>;

const text = readFileSync(new URL('../../contract/openapi.json', import.meta.url), 'utf8');

/**
 * The published contract. Response schemas are its own: our document cannot be narrower than it. What it calls `x-fact`
 * is what a reader of the reference looks for in `description`.
 */
export const contract = JSON.parse(text.replaceAll('"x-fact":', '"description":')) as {
  components: { schemas: Record<string, Json>; securitySchemes: Json };
};

/** The check against a schema of the contract; what clients read from us later must fit it. */
export function checkOfContract(name: string): (value: unknown) => string[] {
  const schema = { $ref: `#/components/schemas/${name}`, components: contract.components };
  return (value) => faultsIn(schema, value);
}
