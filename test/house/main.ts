import { LONG, longFunctions, measure } from './measure.ts';
import { readSources } from './source.ts';

// npm run measure [folder]: the figures of src/, or of any other TypeScript sources, counted alike.
const root = process.argv[2] ?? 'src';
const sources = readSources(root);
const { files, functions, comment_share, circles, arrows, used_once } = measure(root, sources);
const long = longFunctions(sources);
// A circle over an index file runs through everything.
const CIRCLE_SHOWN = 8;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

let output = `${root}: TypeScript sources, tests and declarations (*.d.ts) aside

files             ${files.count}, ${files.lines} lines; median ${files.median}, longest ${files.longest} (${files.longest_path})
functions         ${functions.count}; median ${functions.median} lines, 90th percentile ${functions.ninetieth}, longest ${functions.longest}, over ${LONG}: ${long.length} (${percent(long.length / Math.max(1, functions.count))})
                  counted: every function and method with a body in braces, from its first line to its last,
                  blank lines and comments included; one inside another counts by itself and as part of it
comments          ${percent(comment_share)} of all lines are comments only
circles           ${circles.length} groups of files that import themselves over one another, types aside
arrows            ${arrows.rooms} between rooms (folders of ${root}, files at its top); ${arrows.slices.length} between slices${arrows.slices.map((arrow) => `\n                  ${arrow}`).join('')}
exports used once ${used_once.count} of ${used_once.of} exported names are imported by one other file
`;
for (const circle of circles) {
  const [shown, more] = [circle.slice(0, CIRCLE_SHOWN), circle.length - CIRCLE_SHOWN];
  output += `\ncircle: ${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}\n`;
}
if (long.length > 0) output += `\nfunctions over ${LONG} lines\n`;
for (const { path, line, name, lines } of long) {
  output += `${String(lines).padStart(6)}  ${name}  ${path}:${line}\n`;
}
process.stdout.write(output);
