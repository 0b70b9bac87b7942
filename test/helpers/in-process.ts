import { run } from '../../src/cli/run.ts';
import type { Result } from './cli.ts';

/** Runs a command in this process: for tables of many that end before they have opened anything. */
export async function inProcess(args: readonly string[]): Promise<Result> {
  const written = { stdout: '', stderr: '' };
  const { write: toStdout } = process.stdout;
  const { write: toStderr } = process.stderr;
  const keep = (stream: keyof typeof written) => (part: string | Uint8Array) => {
    written[stream] += part;
    return true;
  };
  process.stdout.write = keep('stdout');
  process.stderr.write = keep('stderr');
  try {
    return { status: await run(args), ...written };
  } finally {
    process.stdout.write = toStdout;
    process.stderr.write = toStderr;
  }
}
