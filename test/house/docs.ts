import { writeFileSync } from 'node:fs';
import { generated } from './generated.ts';

// npm run docs: writes the parts of the documents that come from the sources.
for (const { path, is, must_be } of await generated()) {
  if (is === must_be) continue;
  writeFileSync(path, must_be);
  process.stdout.write(`${path} is written anew\n`);
}
