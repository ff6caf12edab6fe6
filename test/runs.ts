import fc from 'fast-check';

// Mutants are judged by fewer cases, always the same ones: whether one is noticed must not be a matter of chance.
const given = process.env['COULOMB_PROPERTY_RUNS'];
if (given !== undefined) fc.configureGlobal({ seed: 1, numRuns: Number(given) });

/** For properties over money: 10,000 cases each time. */
export const RUNS = { numRuns: Number(given ?? 10_000) };
