import type { TObject, TSchema } from 'typebox';
import { ApiError } from './errors.ts';
import { faultsIn } from './schema.ts';

const typeOf = (schema: TSchema): string | undefined => (schema as { type?: string }).type;

const invalid = (name: string, why: string): ApiError => new ApiError('invalid_parameter', `${name}: ${why}`);

function scalar(name: string, schema: TSchema, text: string): unknown {
  const type = typeOf(schema);
  if (type === 'integer') {
    if (!/^-?\d{1,20}$/.test(text)) throw invalid(name, 'must be an integer');
    return Number(text);
  }
  if (type === 'boolean') {
    if (text !== 'true' && text !== 'false') throw invalid(name, 'must be true or false');
    return text === 'true';
  }
  return text;
}

/**
 * Reads a query string by its schema: `a[]=1&a[]=2` and `a=1&a=2` for arrays, `m[k]=v` for maps.
 * Unknown parameters are ignored, empty ones are absent. Throws `invalid_parameter` naming the parameter.
 */
export function parseQuery(schema: TObject, search: string): Record<string, unknown> {
  const given = new URLSearchParams(search);
  const query: Record<string, unknown> = {};
  for (const [name, property] of Object.entries(schema.properties as Record<string, TSchema>)) {
    const type = typeOf(property);
    if (type === 'object') {
      const entries = mapEntries(name, given);
      if (entries.length > 0) query[name] = Object.fromEntries(entries);
      continue;
    }
    const plain = given.getAll(name);
    const values = [...plain, ...given.getAll(`${name}[]`)].filter((text) => text !== '');
    if (values.some((text) => text.includes('\0'))) throw invalid(name, 'must not contain U+0000');
    if (type === 'array') {
      const { items } = property as unknown as { items: TSchema };
      if (values.length > 0) query[name] = values.map((text) => scalar(name, items, text));
      continue;
    }
    if (values.length > 1 || plain.length < values.length) throw invalid(name, 'must be given once');
    const [text] = values;
    if (text !== undefined) query[name] = scalar(name, property, text);
  }
  const faults = faultsIn(schema, query);
  if (faults.length > 0) throw new ApiError('invalid_parameter', faults.join('; '));
  return query;
}

function mapEntries(name: string, given: URLSearchParams): [string, string][] {
  if (given.has(name)) throw invalid(name, `must be written ${name}[key]=value`);
  const entries: [string, string][] = [];
  for (const [key, value] of given) {
    if (!key.startsWith(`${name}[`)) continue;
    if (!key.endsWith(']') || key.length <= name.length + 2)
      throw invalid(name, `must be written ${name}[key]=value`);
    if (key.includes('\0') || value.includes('\0')) throw invalid(name, 'must not contain U+0000');
    entries.push([key.slice(name.length + 1, -1), value]);
  }
  return entries;
}
