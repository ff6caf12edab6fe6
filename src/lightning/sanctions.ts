import { readFileSync } from 'node:fs';

// The operator's list, read once at start; whether a wallet minds it is its policy (payments/limits.ts).

/** Addresses that must not be paid, each in its one spelling. */
export type SanctionsList = ReadonlySet<string>;

/** bech32 has no case; every other kind of address has. */
const oneSpelling = (address: string): string =>
  /^(bc|tb|bcrt)1[0-9a-z]+$/i.test(address) ? address.toLowerCase() : address;

/** Reads a list: an address per line, `#` begins a comment. Adds to `faults` when it cannot be used. */
export function readSanctionsFile(path: string, faults: string[]): SanctionsList {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    faults.push(`COULOMB_SANCTIONS_FILE cannot be read: ${(error as Error).message}`);
    return new Set();
  }
  const addresses = new Set<string>();
  text.split('\n').forEach((line, index) => {
    const address = (line.split('#')[0] ?? '').trim();
    if (address === '') return;
    // A line that is half read would let the rest of it be paid.
    if (/\s/.test(address)) faults.push(`COULOMB_SANCTIONS_FILE, line ${index + 1}: one address per line`);
    else addresses.add(oneSpelling(address));
  });
  return addresses;
}

export const isListed = (list: SanctionsList, address: string): boolean => list.has(oneSpelling(address));
