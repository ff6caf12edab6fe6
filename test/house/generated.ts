import { readFileSync } from 'node:fs';
import { format, resolveConfig } from 'prettier';
import { VARIABLES } from '../../src/config.ts';
import { picture } from './picture.ts';
import { readSources } from './source.ts';

const begin = (name: string): string => `<!-- ${name}: written by npm run docs -->`;
const END = '<!-- end -->';

/** A text with the part between the marks of that name replaced. */
function withPart(text: string, name: string, part: string): string {
  const [before, rest] = text.split(begin(name));
  const at = rest?.indexOf(END) ?? -1;
  if (before === undefined || rest === undefined || at === -1) throw new Error(`no part ${name}`);
  return `${before}${begin(name)}\n\n${part}\n\n${rest.slice(at)}`;
}

const variables = (): string =>
  [
    '| variable | default | meaning |',
    '| --- | --- | --- |',
    ...VARIABLES.map(({ name, fallback, meaning }) => `| \`${name}\` | ${fallback} | ${meaning} |`),
  ].join('\n');

const PARTS: { path: string; name: string; part: () => string }[] = [
  { path: 'ARCHITECTURE.md', name: 'rooms', part: () => picture('src', readSources('src')) },
  { path: 'README.md', name: 'configuration', part: variables },
];

/** The documents with parts that come from the sources: as they are, and as they have to be. */
export async function generated(): Promise<{ path: string; is: string; must_be: string }[]> {
  return Promise.all(
    PARTS.map(async ({ path, name, part }) => {
      const is = readFileSync(path, 'utf8');
      const options = { ...(await resolveConfig(path)), filepath: path };
      return { path, is, must_be: await format(withPart(is, name, part()), options) };
    }),
  );
}
