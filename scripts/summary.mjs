// Prints the closing line of scripts/test, from vitest's results and the count of checks.
import { readFileSync } from 'node:fs';

const [file, checks, failedChecks] = process.argv.slice(2);
let results;
try {
  results = JSON.parse(readFileSync(file, 'utf8'));
} catch {
  console.log('the tests gave no results');
  results = { numPassedTests: 0, numFailedTests: 1, numPendingTests: 0, testResults: [] };
}
// A file that could not even be loaded counts as one failure.
const broken = results.testResults.filter(
  (one) => one.status === 'failed' && one.assertionResults.length === 0,
);
const passed = results.numPassedTests + Number(checks) - Number(failedChecks);
const failed = results.numFailedTests + broken.length + Number(failedChecks);
console.log(`${passed} passed, ${failed} failed, ${results.numPendingTests} skipped`);
process.exit(failed === 0 ? 0 : 1);
