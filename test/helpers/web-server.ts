import type { ChildProcess } from 'node:child_process';
import { afterAll } from 'vitest';
import { start } from './cli.ts';

const started: ChildProcess[] = [];

afterAll(() => {
  for (const server of started) server.kill();
});

/** `python3 -m http.server`, at a free port. */
const PYTHON = `
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
print(f'port {server.server_address[1]}!', file=sys.stderr)
server.serve_forever()
`;

/** Has a folder served by a web server that is not ours, and speaks HTTP/1.0; gives the host with its port. */
export async function servedByPython(folder: string): Promise<string> {
  const child = await start('python3', ['-u', '-c', PYTHON, folder], '!');
  started.push(child);
  return `127.0.0.1:${/port (\d+)/.exec(child.log())![1]}`;
}
