import { globSync, readFileSync } from 'node:fs';
import { parseSync, Visitor, type Node } from 'oxc-parser';

const isQuery = (callee: Node): boolean =>
  callee.type === 'MemberExpression' &&
  callee.property.type === 'Identifier' &&
  callee.property.name === 'query';

/**
 * Names of prepared statements that stand at more than one place. A connection keeps the first text of a name and
 * refuses every other one, so the second place fails wherever the first one came by before.
 */
export function sharedNames(): string[] {
  const places = new Map<string, number>();
  for (const path of globSync('src/**/*.ts')) {
    new Visitor({
      CallExpression({ callee, arguments: [, , name] }) {
        if (!isQuery(callee) || name?.type !== 'Literal' || typeof name.value !== 'string') return;
        places.set(name.value, (places.get(name.value) ?? 0) + 1);
      },
    }).visit(parseSync(path, readFileSync(path, 'utf8')).program);
  }
  return [...places].filter(([, count]) => count > 1).map(([name]) => name);
}
