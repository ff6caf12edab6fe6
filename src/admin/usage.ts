import { parseArgs, type ParseArgsConfig } from 'node:util';

/** Thrown for a command line that cannot be understood. */
export class UsageError extends Error {}

/** What a command line gave: options by their name, and the words beside them. */
export interface Given {
  values: Record<string, string | boolean | undefined>;
  positionals: string[];
}

/**
 * Reads a command line by the usage that people are shown, so that neither knows an option that the other does not:
 * `--name WORD` takes a text, `--name` alone is a flag. Throws `UsageError`.
 */
export function readArguments(usage: string, args: readonly string[], more: ParseArgsConfig = {}): Given {
  const options = { ...more.options };
  for (const [, name = '', word] of usage.matchAll(/--([a-z-]+)( [^|\s])?/g))
    options[name] = { type: word ? 'string' : 'boolean' };
  try {
    return parseArgs({ ...more, args: [...args], options }) as Given;
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\nusage: coulomb ${usage}`);
  }
}

/** The text of an option, undefined where it was not given. */
export function optional({ values }: Given, name: string): string | undefined {
  const value = values[name];
  return typeof value === 'string' ? value : undefined;
}

/** The text of an option; throws `UsageError` where there is none. */
export function required(given: Given, name: string): string {
  const value = optional(given, name) ?? '';
  if (value === '') throw new UsageError(`--${name} is required`);
  return value;
}
