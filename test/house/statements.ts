import type { CallExpression } from 'oxc-parser';
import { callsIn } from './calls.ts';

const isQuery = ({ callee }: CallExpression): boolean =>
  callee.type === 'MemberExpression' &&
  callee.property.type === 'Identifier' &&
  callee.property.name === 'query';

/**
 * Names of prepared statements that stand at more than one place. A connection keeps the first text of a name and
 * refuses every other one, so the second place fails wherever the first one came by before.
 */
export function sharedNames(): string[] {
  const places = new Map<string, number>();
  for (const {
    arguments: [, , name],
  } of callsIn(['src/**/*.ts']).filter(isQuery)) {
    if (name?.type !== 'Literal' || typeof name.value !== 'string') continue;
    places.set(name.value, (places.get(name.value) ?? 0) + 1);
  }
  return [...places].filter(([, count]) => count > 1).map(([name]) => name);
}
