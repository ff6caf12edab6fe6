// Mutation testing (docs/mutation.md): every small change of a rule of money must be noticed by a test beside it.
export default {
  // The pure modules. SQL within them is left out in place; what else speaks to a database, a node or a client is
  // judged by the tests against real ones, which are too slow to be run once per mutant.
  mutate: [
    'src/core/{money,rate}.ts',
    'src/ledger/{accounts,ledger}.ts',
    'src/lightning/{bip21,bolt11,words}.ts',
    'src/payments/{amounts,limits,periods,promote,request,rules,states,terms}.ts',
    'src/policies/rules.ts',
    'src/quotes/{consume,median,rules,walk}.ts',
  ],
  testRunner: 'tap',
  plugins: ['@stryker-mutator/tap-runner'],
  tap: {
    // Of the same rooms; `rates` waits for real servers.
    testFiles: ['src/{core,ledger,lightning,payments,policies,quotes}/!(rates).test.ts'],
    nodeArgs: ['--test-reporter=tap', '-r', '{{hookFile}}', '{{testFile}}'],
  },
  coverageAnalysis: 'perTest',
  concurrency: 2,
  // A mutant that loops for ever is killed by time; one on a busy machine must not be.
  timeoutMS: 20_000,
  incremental: true,
  incrementalFile: '.cache/mutation/incremental.json',
  tempDirName: '.cache/mutation/sandbox',
  // Stryker would read it with a compiler's API that TypeScript 7 does not have; Node needs none.
  ignorePatterns: ['tsconfig.json'],
  reporters: ['json', 'clear-text'],
  jsonReporter: { fileName: '.cache/mutation/report.json' },
  clearTextReporter: { reportMutants: false, reportTests: false },
};
