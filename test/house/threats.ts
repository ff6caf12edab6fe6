import { callsIn } from './calls.ts';

interface Threat {
  about: string;
  /** What of it needs something that is not built yet. */
  not_in_reach?: string;
}

/** What went wrong in comparable systems. The name of each test that guards against one carries its number. */
export const THREATS: Readonly<Record<number, Threat>> = {
  1: { about: 'one invoice, two payment hashes' },
  2: { about: 'a balance read before the earlier debit' },
  3: { about: 'a timeout taken for a failure' },
  4: { about: 'a payment stuck until the next restart' },
  5: { about: 'a fee above what was reserved for it' },
  6: { about: 'a settlement missed while away' },
  7: { about: 'one hash debited or credited twice' },
  8: { about: 'a lock that expires' },
  9: { about: 'a ledger that nobody compares' },
  10: { about: 'amounts out of range' },
  11: { about: 'rounding that favours the payer' },
  12: { about: 'a second transaction after a broadcast error' },
  13: { about: 'a webhook into the network inside' },
  14: { about: 'a webhook lost, or held up by another' },
  15: { about: 'a secret in logs, arguments or pages' },
  16: { about: 'links by the Host header', not_in_reach: 'pages of checkout' },
  17: { about: 'a node that hangs and everybody waits' },
  18: { about: 'a start that reads everything' },
  19: { about: 'a limit overrun by parallel requests', not_in_reach: 'withdraw links' },
  20: { about: 'an invoice that outlives its quote' },
};

/** The threats that the name of some test begins with: `threat 7: …`, `threat 4 and 9: …`. */
export function testedThreats(): Set<number> {
  const found = new Set<number>();
  for (const {
    arguments: [name],
  } of callsIn(['src/**/*.test.ts', 'test/**/*.test.ts'])) {
    if (name === undefined) continue;
    const text =
      name.type === 'TemplateLiteral' ? name.quasis[0]?.value.raw : 'value' in name ? name.value : null;
    const [, numbers = ''] = /^threat ([\d, and]+):/.exec(String(text)) ?? [];
    for (const number of numbers.match(/\d+/g) ?? []) found.add(Number(number));
  }
  return found;
}
