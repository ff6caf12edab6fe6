import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { EXPLAINED, type Explained } from './explained.ts';

// `npm run mutate`: changes the pure rules one small thing at a time, and fails where no test notices. Writes
// docs/mutation.md. With files as arguments only those are changed anew; what is known of the others stays.
const LEAST_PERCENT = 85;
const PROPERTY_RUNS = '100';
const REPORT = '.cache/mutation/report.json';
const RESULT = 'docs/mutation.md';

interface Place {
  line: number;
  column: number;
}

/** What is needed of Stryker's report (mutation-testing-report-schema). */
interface Report {
  files: Record<string, { source: string; mutants: Mutant[] }>;
}
interface Mutant {
  mutatorName: string;
  replacement: string;
  status: 'Killed' | 'Timeout' | 'Survived' | 'NoCoverage' | 'RuntimeError' | 'Ignored';
  location: { start: Place; end: Place };
}

interface Survivor {
  file: string;
  row: number;
  line: string;
  original: string;
  replacement: string;
}

const oneLine = (text: string): string => text.replace(/\s+/g, ' ').trim();

/** The source between two places, which count from 1. */
function textAt(source: string, { start, end }: Mutant['location']): string {
  const lines = source.split('\n').slice(start.line - 1, end.line);
  const last = lines.length - 1;
  lines[last] = lines[last]?.slice(0, end.column - 1) ?? '';
  lines[0] = lines[0]?.slice(start.column - 1) ?? '';
  return oneLine(lines.join('\n'));
}

const count = (mutants: readonly Mutant[], ...statuses: Mutant['status'][]): number =>
  mutants.filter(({ status }) => statuses.includes(status)).length;

const survivorsOf = ({ files }: Report): Survivor[] =>
  Object.entries(files).flatMap(([file, { source, mutants }]) =>
    mutants
      .filter(({ status }) => status === 'Survived' || status === 'NoCoverage')
      .map(({ location, replacement }) => ({
        file,
        row: location.start.line,
        line: source.split('\n')[location.start.line - 1]?.trim() ?? '',
        original: textAt(source, location),
        replacement: oneLine(replacement),
      })),
  );

const explains = (one: Explained, survivor: Survivor): boolean =>
  one.file === survivor.file &&
  one.line === survivor.line &&
  one.original === survivor.original &&
  one.replacements.includes(survivor.replacement);

const reasonOf = (survivor: Survivor): string | undefined =>
  EXPLAINED.find((one) => explains(one, survivor))?.why;

/** Killed mutants in percent; one that breaks the program before a test can fail counts for neither side. */
function percentOf(mutants: readonly Mutant[]): number {
  const killed = count(mutants, 'Killed', 'Timeout');
  return (100 * killed) / (killed + count(mutants, 'Survived', 'NoCoverage'));
}

function scoreLine(name: string, mutants: readonly Mutant[]): string {
  const cells = [
    name,
    percentOf(mutants).toFixed(1),
    count(mutants, 'Killed', 'Timeout'),
    count(mutants, 'Survived', 'NoCoverage'),
    count(mutants, 'RuntimeError'),
  ];
  return `| ${cells.join(' | ')} |`;
}

function page({ files }: Report, survivors: readonly Survivor[]): string {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const date = new Date().toISOString().slice(0, 10);
  const code = (text: string) => `\`${text === '' ? ' ' : text}\``;
  return `# What the tests would notice

Written by \`npm run mutate\` (${date}, sources of ${commit}). Stryker changes the pure rules one small thing at a time and runs
the tests beside them; a mutant is killed when one of them fails. What is changed and what is not: stryker.config.mjs.
Every survivor is explained below (test/mutation/explained.ts); a new one, or less than ${LEAST_PERCENT} % killed in all, fails
the command.

| file | killed % | killed | survived | broken |
| ---- | -------: | -----: | -------: | -----: |
${Object.keys(files)
  .sort()
  .map((file) => scoreLine(file, files[file]?.mutants ?? []))
  .join('\n')}
${scoreLine(
  'all',
  Object.values(files).flatMap(({ mutants }) => mutants),
)}

## Survivors

${survivors
  .map(
    (one) =>
      `- ${one.file}:${one.row}, ${code(one.original)} as ${code(one.replacement)}: ${reasonOf(one) ?? 'NOT EXPLAINED'}`,
  )
  .join('\n')}
`;
}

const files = process.argv.slice(2);
const { status } = spawnSync(
  'node_modules/.bin/stryker',
  ['run', ...(files.length > 0 ? ['--mutate', files.join(',')] : [])],
  { stdio: 'inherit', env: { ...process.env, COULOMB_PROPERTY_RUNS: PROPERTY_RUNS } },
);
if (status !== 0) process.exit(status ?? 1);
const report = JSON.parse(readFileSync(REPORT, 'utf8')) as Report;
const survivors = survivorsOf(report).sort(
  (a, b) => a.file.localeCompare(b.file) || a.row - b.row || a.replacement.localeCompare(b.replacement),
);
writeFileSync(RESULT, page(report, survivors));

const all = percentOf(Object.values(report.files).flatMap(({ mutants }) => mutants));
const faults = [
  ...(all < LEAST_PERCENT ? [`only ${all.toFixed(1)} % are killed`] : []),
  ...survivors
    .filter((one) => reasonOf(one) === undefined)
    .map((one) => `${one.file}:${one.row}: nothing notices ${one.original} as ${one.replacement}`),
  ...EXPLAINED.filter(
    (one) => one.file in report.files && !survivors.some((survivor) => explains(one, survivor)),
  ).map(({ file, line }) => `${file}: explained, but it does not survive: ${line}`),
];
for (const fault of faults) process.stdout.write(`✖ ${fault}\n`);
process.exit(faults.length > 0 ? 1 : 0);
