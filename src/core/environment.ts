/** What a process was started with. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One variable of the environment: all that the server, its README and its reader know of it, in one place. */
export interface Variable<T> {
  name: string;
  /** What holds where it is not set, as the README says it. */
  fallback: string;
  meaning: string;
  /** Its value. What cannot be used is named in `faults`, all at once: the value is of no matter then. */
  read(environment: Environment, faults: string[]): T;
}

/** A tree of variables and fixed values, and what it is once it is read. */
type Tree = { [key: string]: Variable<unknown> | Tree | number };
/** What a tree becomes once it is read: each variable its value. */
export type ValuesOf<T> =
  T extends Variable<infer V> ? V : T extends number ? number : { readonly [K in keyof T]: ValuesOf<T[K]> };

const isVariable = (entry: Variable<unknown> | Tree): entry is Variable<unknown> =>
  typeof entry['read'] === 'function';

/** The value of a variable as it was given; null where it is empty or not set. */
export function given(environment: Environment, name: string): string | null {
  const value = environment[name]?.trim();
  return value === undefined || value === '' ? null : value;
}

/** A variable with a reader of its own. */
export const variable = <T>(
  name: string,
  fallback: string,
  meaning: string,
  parse: (value: string | null, faults: string[], environment: Environment) => T,
): Variable<T> => ({
  name,
  fallback,
  meaning,
  read: (environment, faults) => parse(given(environment, name), faults, environment),
});

/** A whole number within bounds, both included. */
export function whole(
  name: string,
  fallback: number,
  [least, most]: readonly [number, number],
  meaning: string,
): Variable<number> {
  return variable(name, String(fallback), meaning, (value, faults) => {
    if (value === null) return fallback;
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= least && number <= most) return number;
    faults.push(`${name} must be a whole number from ${least} to ${most}, not "${value}"`);
    return fallback;
  });
}

/** Values with commas between them. */
export const list = (value: string | null): string[] =>
  (value ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

/** An address by one of these protocols (`https:`), without the slash at its end; null where it is not set. */
export function url(
  name: string,
  fallback: string,
  protocols: readonly string[],
  meaning: string,
): Variable<string | null> {
  return variable(name, fallback, meaning, (value, faults) => {
    if (value === null) return null;
    // The value may hold a password: it is not repeated.
    if (!URL.canParse(value) || !protocols.includes(new URL(value).protocol)) {
      faults.push(`${name} must be a URL (${protocols.join(' or ')})`);
    }
    return value.replace(/\/$/, '');
  });
}

/** Reads every variable of a tree, and freezes what stands around them. */
export function readTree<T extends Tree>(tree: T, environment: Environment, faults: string[]): ValuesOf<T> {
  const values = Object.entries(tree).map(([key, entry]) => {
    if (typeof entry === 'number') return [key, entry];
    return [key, isVariable(entry) ? entry.read(environment, faults) : readTree(entry, environment, faults)];
  });
  return Object.freeze(Object.fromEntries(values)) as ValuesOf<T>;
}

/** Every variable of a tree, in its order. */
export function variablesOf(tree: Tree): Variable<unknown>[] {
  return Object.values(tree).flatMap((entry) => {
    if (typeof entry === 'number') return [];
    return isVariable(entry) ? [entry] : variablesOf(entry);
  });
}
