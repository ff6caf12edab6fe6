import { globSync, readFileSync } from 'node:fs';
import { parseSync, Visitor, type CallExpression } from 'oxc-parser';

/** Every call in the files that these patterns name. */
export function callsIn(patterns: readonly string[]): CallExpression[] {
  const calls: CallExpression[] = [];
  const visitor = new Visitor({ CallExpression: (call) => void calls.push(call) });
  for (const path of globSync(patterns)) visitor.visit(parseSync(path, readFileSync(path, 'utf8')).program);
  return calls;
}
