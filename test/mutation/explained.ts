/** A mutant that no test can notice, and why. `original` and `replacement` with single spaces. */
interface Explained {
  file: string;
  original: string;
  replacement: string;
  why: string;
}

const CACHE = 'an id is derived anew where it is not remembered; the bound is of memory alone';
const NO_MATCH = 'only the groups of a match are read, and there is none';

export const EXPLAINED: readonly Explained[] = [
  {
    file: 'src/core/money.ts',
    original: 'amount < 0n',
    replacement: 'amount <= 0n',
    why: 'minus nothing is nothing',
  },
  {
    file: 'src/core/money.ts',
    original: 'a > b',
    replacement: 'a >= b',
    why: 'of two equal amounts either is the greater',
  },
  {
    file: 'src/core/money.ts',
    original: 'a < b',
    replacement: 'a <= b',
    why: 'of two equal amounts either is the lesser',
  },
  { file: 'src/core/rate.ts', original: '[]', replacement: '["Stryker was here"]', why: NO_MATCH },
  { file: 'src/ledger/accounts.ts', original: 'cached !== undefined', replacement: 'false', why: CACHE },
  {
    file: 'src/ledger/accounts.ts',
    original: 'cachedIds.size >= MAX_CACHED_IDS',
    replacement: 'true',
    why: CACHE,
  },
  {
    file: 'src/ledger/accounts.ts',
    original: 'cachedIds.size >= MAX_CACHED_IDS',
    replacement: 'false',
    why: CACHE,
  },
  {
    file: 'src/ledger/accounts.ts',
    original: 'cachedIds.size >= MAX_CACHED_IDS',
    replacement: 'cachedIds.size > MAX_CACHED_IDS',
    why: CACHE,
  },
  {
    file: 'src/ledger/accounts.ts',
    original: 'cachedIds.size >= MAX_CACHED_IDS',
    replacement: 'cachedIds.size < MAX_CACHED_IDS',
    why: CACHE,
  },
  { file: 'src/lightning/bip21.ts', original: '[]', replacement: '["Stryker was here"]', why: NO_MATCH },
  {
    file: 'src/lightning/bolt11.ts',
    original: '[]',
    replacement: '["Stryker was here"]',
    why: 'only the groups of a match are read; and a text is no word with a feature bit',
  },
  {
    file: 'src/lightning/bolt11.ts',
    original: 'bit < 5',
    replacement: 'bit <= 5',
    why: 'a word has five bits, the sixth is never set',
  },
  {
    file: 'src/payments/amounts.ts',
    original: 'msats >= payable',
    replacement: 'msats > payable',
    why: 'what is payable is worth all that was asked either way: it was rounded up',
  },
  {
    file: 'src/payments/amounts.ts',
    original: 'gross >= total',
    replacement: 'gross > total',
    why: 'the part of the total is what was asked, since the fee was rounded up',
  },
  {
    file: 'src/payments/limits.ts',
    original: 'amount === null',
    replacement: 'false',
    why: 'no amount is above no maximum either; the check is for the types',
  },
  {
    file: 'src/payments/request.ts',
    original: 'amount.amount > 0',
    replacement: 'amount.amount >= 0',
    why: 'minus nothing is nothing',
  },
  {
    file: 'src/payments/request.ts',
    original: 'given.value < 0n',
    replacement: 'given.value <= 0n',
    why: 'minus nothing is nothing',
  },
  {
    file: 'src/payments/rules.ts',
    original: "''",
    replacement: '"Stryker was here!"',
    why: 'a URI without an invoice has an address',
  },
  {
    file: 'src/payments/rules.ts',
    original: 'error instanceof InvalidUri',
    replacement: 'true',
    why: 'nothing else is thrown there; if it were, it would be a fault of the server',
  },
  {
    file: 'src/payments/rules.ts',
    original: '!(error instanceof InvalidInvoice)',
    replacement: 'false',
    why: 'nothing else is thrown there; if it were, it would be a fault of the server',
  },
  {
    file: 'src/payments/terms.ts',
    original: "'msats'",
    replacement: '""',
    why: 'whatever is not sats is rounded to msats, and the type has two values',
  },
  {
    file: 'src/quotes/median.ts',
    original: 'upper && lower',
    replacement: 'upper || lower',
    why: 'of no rates there is neither, of any there are both',
  },
  {
    file: 'src/quotes/median.ts',
    original: 'value < center',
    replacement: 'value <= center',
    why: 'between equals there is no distance',
  },
  {
    file: 'src/quotes/median.ts',
    original: '[]',
    replacement: '["Stryker was here"]',
    why: 'without a first median there is no reading that could be left',
  },
  { file: 'src/quotes/rules.ts', original: "'down'", replacement: '""', why: 'every way but up is down' },
];
