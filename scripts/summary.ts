// Prints the closing line of a suite, from the count of checks and vitest's results:
//   node scripts/summary.ts CHECKS FAILED_CHECKS [RESULTS=STATUS...]     with vitest's exit status
import { readFileSync } from 'node:fs';

interface Results {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[];
}

const [checks, failedChecks, ...files] = process.argv.slice(2);
let failed = Number(failedChecks);
let passed = Number(checks) - failed;
let skipped = 0;

for (const one of files) {
  const [file = '', status] = one.split('=');
  const results = resultsOf(file);
  // A file that could not even be loaded counts as one failure.
  const broken = results?.testResults.filter(
    (one) => one.status === 'failed' && one.assertionResults.length === 0,
  );
  passed += results?.numPassedTests ?? 0;
  const failures = results ? results.numFailedTests + broken!.length : 1;
  // It fails a run for more than its tests: an error outside all of them.
  if (failures === 0 && status !== '0') console.log(`vitest ended with ${status}`);
  failed += failures || (status === '0' ? 0 : 1);
  skipped += results?.numPendingTests ?? 0;
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed === 0 ? 0 : 1);

function resultsOf(file: string): Results | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    console.log('the tests gave no results');
    return undefined;
  }
}
