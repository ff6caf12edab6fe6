import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync, Visitor, type Comment, type Node } from 'oxc-parser';

/** A function whose body stands in braces; an expression behind an arrow is part of the line it stands in. */
export interface FunctionSize {
  name: string;
  line: number;
  lines: number;
}

export interface Import {
  /** The file, where it is one of ours. */
  path: string;
  /** What is taken by name; `*` is everything. */
  names: string[];
  /** Gone at run time. */
  types_only: boolean;
}

export interface Source {
  path: string;
  lines: number;
  /** Lines with nothing but a comment. */
  comment_lines: number;
  functions: FunctionSize[];
  imports: Import[];
  exports: string[];
  /** Exported functions and interfaces that no doc comment stands before. */
  undocumented: string[];
}

type Named = { type: string; name?: unknown; value?: unknown } | null;

const nameOf = (node: Named): string => {
  if (node === null) return 'default';
  return typeof node.name === 'string' ? node.name : typeof node.value === 'string' ? node.value : '?';
};

/** Counts lines by offset: `lineAt(0)` is 1. */
function lineFinder(text: string): (offset: number) => number {
  const starts = [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1)];
  return (offset) => {
    const next = starts.findIndex((start) => start > offset);
    return next === -1 ? starts.length : next;
  };
}

function functionsOf(program: Node & { type: 'Program' }, text: string): FunctionSize[] {
  const lineAt = lineFinder(text);
  // A function is called by what holds it, which is visited first.
  const names = new Map<number, string>();
  const functions: FunctionSize[] = [];
  const held = (holder: Named, value: { start: number } | null): void => {
    if (value !== null) names.set(value.start, nameOf(holder));
  };
  const add = (node: { start: number; end: number; body: { type: string } | null; id?: Named }): void => {
    if (node.body?.type !== 'BlockStatement') return;
    const line = lineAt(node.start);
    const name = node.id ? nameOf(node.id) : (names.get(node.start) ?? 'a callback');
    functions.push({ name, line, lines: lineAt(node.end - 1) - line + 1 });
  };
  new Visitor({
    VariableDeclarator: (node) => held(node.id, node.init),
    Property: (node) => held(node.key, node.value),
    PropertyDefinition: (node) => held(node.key, node.value),
    MethodDefinition: (node) => held(node.key, node.value),
    FunctionDeclaration: add,
    FunctionExpression: add,
    ArrowFunctionExpression: add,
  }).visit(program);
  return functions;
}

function commentLines(text: string, comments: Comment[]): number {
  const without = comments.reduceRight(
    // Marked, so that a line that only had a comment is told from an empty one.
    (rest, { start, end, value }) =>
      `${rest.slice(0, start)}${value.replaceAll(/[^\n]+/g, '\0') || '\0'}${rest.slice(end)}`,
    text,
  );
  return without.split('\n').filter((line) => line.includes('\0') && /^[\0\s]*$/.test(line)).length;
}

function undocumentedOf(program: Node & { type: 'Program' }, text: string): string[] {
  return program.body.flatMap((node) => {
    if (node.type !== 'ExportNamedDeclaration' || /\*\/\s*$/.test(text.slice(0, node.start))) return [];
    const { declaration } = node;
    if (declaration?.type === 'VariableDeclaration') {
      return declaration.declarations
        .filter(({ init }) => init?.type === 'ArrowFunctionExpression')
        .map(({ id }) => nameOf(id));
    }
    const named =
      declaration?.type === 'FunctionDeclaration' || declaration?.type === 'TSInterfaceDeclaration';
    return named ? [nameOf(declaration.id)] : [];
  });
}

/** Where an import leads among the files given, also when it is written as in compiled code. */
function targetOf(from: string, to: string, known: ReadonlySet<string>): string | undefined {
  const stem = join(from, '..', to);
  const plain = stem.replace(/\.[jt]s$/, '');
  return [stem, `${plain}.ts`, join(plain, 'index.ts')].find((path) => known.has(path));
}

function importsOf(program: Node & { type: 'Program' }, path: string, known: ReadonlySet<string>): Import[] {
  const imports: Import[] = [];
  const add = (to: unknown, names: string[], types_only: boolean): void => {
    const target = typeof to === 'string' && to.startsWith('.') ? targetOf(path, to, known) : undefined;
    if (target !== undefined) imports.push({ path: target, names, types_only });
  };
  new Visitor({
    ImportDeclaration: ({ source, specifiers, importKind }) => {
      const names = specifiers.map((specifier) => {
        if (specifier.type === 'ImportSpecifier') return nameOf(specifier.imported);
        return specifier.type === 'ImportDefaultSpecifier' ? 'default' : '*';
      });
      add(source.value, names, importKind === 'type');
    },
    ExportNamedDeclaration: ({ source, specifiers, exportKind }) => {
      const names = specifiers.map(({ local }) => nameOf(local));
      if (source) add(source.value, names, exportKind === 'type');
    },
    ExportAllDeclaration: ({ source, exportKind }) => add(source.value, ['*'], exportKind === 'type'),
    ImportExpression: ({ source }) => add('value' in source ? source.value : null, ['*'], false),
    TSImportType: ({ source }) => add(source.value, ['*'], true),
  }).visit(program);
  return imports;
}

function readSource(path: string, known: ReadonlySet<string>): Source {
  const text = readFileSync(path, 'utf8');
  const { program, comments, module, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0]?.message}`);
  return {
    path,
    lines: text.split('\n').length - (text.endsWith('\n') ? 1 : 0),
    comment_lines: commentLines(text, comments),
    functions: functionsOf(program, text),
    imports: importsOf(program, path, known),
    exports: module.staticExports
      .flatMap(({ entries }) => entries)
      .map(({ exportName }) => exportName.name ?? 'default'),
    undocumented: undocumentedOf(program, text),
  };
}

/** Every TypeScript source under a folder, tests and declarations aside, by path. */
export function readSources(folder: string): Source[] {
  const paths = globSync(join(folder, '**/*.ts'))
    .filter((path) => !/(?:\.test|\.spec|\.d)\.ts$/.test(path))
    .sort();
  const known = new Set(paths);
  return paths.map((path) => readSource(path, known));
}
