/** Mutants of one place that no test can notice, and why. */
export interface Explained {
  file: string;
  /** The line that the place is in, without its indentation. */
  line: string;
  original: string;
  replacements: string[];
  why: string;
}

export const EXPLAINED: readonly Explained[] = [
  {
    file: 'src/core/money.ts',
    line: '...wireAmount(currency, amount < 0n ? -amount : amount),',
    original: 'amount < 0n',
    replacements: ['amount <= 0n'],
    why: 'minus nothing is nothing',
  },
  {
    file: 'src/core/money.ts',
    line: 'export const maxOf = (a: bigint, b: bigint): bigint => (a > b ? a : b);',
    original: 'a > b',
    replacements: ['a >= b'],
    why: 'of two equal amounts either is the greater',
  },
  {
    file: 'src/core/money.ts',
    line: 'export const minOf = (a: bigint, b: bigint): bigint => (a < b ? a : b);',
    original: 'a < b',
    replacements: ['a <= b'],
    why: 'of two equal amounts either is the lesser',
  },
  {
    file: 'src/core/rate.ts',
    line: 'const [, coefficient, scale] = RATE.exec(text) ?? [];',
    original: '[]',
    replacements: ['["Stryker was here"]'],
    why: 'only the groups of a match are read, and there is none',
  },
  {
    file: 'src/ledger/accounts.ts',
    line: 'if (cached !== undefined) return cached;',
    original: 'cached !== undefined',
    replacements: ['false'],
    why: 'an id is derived anew where it is not remembered; the bound is of memory alone',
  },
  {
    file: 'src/ledger/accounts.ts',
    line: 'if (cachedIds.size >= MAX_CACHED_IDS) cachedIds.clear();',
    original: 'cachedIds.size >= MAX_CACHED_IDS',
    replacements: ['cachedIds.size < MAX_CACHED_IDS', 'cachedIds.size > MAX_CACHED_IDS', 'false', 'true'],
    why: 'an id is derived anew where it is not remembered; the bound is of memory alone',
  },
  {
    file: 'src/lightning/bip21.ts',
    line: "const [, whole, fraction = ''] = AMOUNT.exec(text) ?? [];",
    original: '[]',
    replacements: ['["Stryker was here"]'],
    why: 'only the groups of a match are read, and there is none',
  },
  {
    file: 'src/lightning/bolt11.ts',
    line: "const [, , digits, multiplier] = PREFIX.exec(lower.slice(0, lower.lastIndexOf('1'))) ?? [];",
    original: '[]',
    replacements: ['["Stryker was here"]'],
    why: 'only the groups of a match are read, and there is none',
  },
  {
    file: 'src/lightning/bolt11.ts',
    line: 'for (let bit = 0; bit < 5; bit += 1) {',
    original: 'bit < 5',
    replacements: ['bit <= 5'],
    why: 'a word has five bits, the sixth is never set',
  },
  {
    file: 'src/lightning/bolt11.ts',
    line: 'const [, prefix, digits, multiplier] = PREFIX.exec(hrp) ?? [];',
    original: '[]',
    replacements: ['["Stryker was here"]'],
    why: 'only the groups of a match are read, and there is none',
  },
  {
    file: 'src/lightning/bolt11.ts',
    line: "checkFeatures(fields.get('9') ?? []);",
    original: '[]',
    replacements: ['["Stryker was here"]'],
    why: 'a text is no word with a feature bit',
  },
  {
    file: 'src/payments/amounts.ts',
    line: 'if (msats >= payable) return total + centsDown(rate, msats - payable);',
    original: 'msats >= payable',
    replacements: ['msats > payable'],
    why: 'what is payable is worth all that was asked either way: it was rounded up',
  },
  {
    file: 'src/payments/amounts.ts',
    line: 'return gross >= total ? asked + part(gross - total) : minOf(asked, part(gross));',
    original: 'gross >= total',
    replacements: ['gross > total'],
    why: 'the part of the total is what was asked, since the fee was rounded up',
  },
  {
    file: 'src/payments/limits.ts',
    line: 'if (amount === null || !isTooLarge(amount, limits)) return null;',
    original: 'amount === null',
    replacements: ['false'],
    why: 'no amount is above no maximum either; the check is for the types',
  },
  {
    file: 'src/payments/request.ts',
    line: 'value: amount.negative === true && amount.amount > 0 ? -BigInt(amount.amount) : BigInt(amount.amount),',
    original: 'amount.amount > 0',
    replacements: ['amount.amount >= 0'],
    why: 'minus nothing is nothing',
  },
  {
    file: 'src/payments/request.ts',
    line: 'const shown = given.value < 0n ? -given.value : given.value;',
    original: 'given.value < 0n',
    replacements: ['given.value <= 0n'],
    why: 'minus nothing is nothing',
  },
  {
    file: 'src/payments/rules.ts',
    line: "if (error instanceof InvalidUri) throw new ApiError('invalid_address', `data.address: ${error.message}`);",
    original: 'error instanceof InvalidUri',
    replacements: ['true'],
    why: 'nothing else is thrown there; if it were, it would be a fault of the server',
  },
  {
    file: 'src/payments/rules.ts',
    line: "return draftAddress(body, context, uri.address ?? '', given, description);",
    original: "''",
    replacements: ['"Stryker was here!"'],
    why: 'a URI without an invoice has an address',
  },
  {
    file: 'src/payments/rules.ts',
    line: 'if (!(error instanceof InvalidInvoice)) throw error;',
    original: '!(error instanceof InvalidInvoice)',
    replacements: ['false'],
    why: 'nothing else is thrown there; if it were, it would be a fault of the server',
  },
  {
    file: 'src/payments/terms.ts',
    line: "const precision = quote.target_precision === 'msats' && draft.kind === 'bolt11' ? 'msats' : 'sats';",
    original: "'msats'",
    replacements: ['""'],
    why: 'whatever is not sats is rounded to msats, and the type has two values',
  },
  {
    file: 'src/quotes/median.ts',
    line: 'return upper && lower ? mean(lower, upper) : null;',
    original: 'upper && lower',
    replacements: ['upper || lower'],
    why: 'of no rates there is neither, of any there are both',
  },
  {
    file: 'src/quotes/median.ts',
    line: 'const distance = value < center ? center - value : value - center;',
    original: 'value < center',
    replacements: ['value <= center'],
    why: 'between equals there is no distance',
  },
  {
    file: 'src/quotes/median.ts',
    line: 'const near = first ? fresh.filter(({ rate }) => isNear(rate, first, rules.max_deviation_bps)) : [];',
    original: '[]',
    replacements: ['["Stryker was here"]'],
    why: 'without a first median there is no reading that could be left',
  },
  {
    file: 'src/quotes/rules.ts',
    line: "withSpread(market.rate, line.spread_bps, to === 'usd' ? 'up' : 'down');",
    original: "'down'",
    replacements: ['""'],
    why: 'every way but up is down',
  },
];
