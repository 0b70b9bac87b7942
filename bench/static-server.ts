/** Serves the files in a folder over HTTP as they are: `static-server.ts FOLDER`. Prints its port. */
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

const [folder] = process.argv.slice(2) as [string];
const server = createServer((request, response) => {
  const path = join(folder, decodeURIComponent(request.url!.split('?')[0]!));
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) response.writeHead(404).end();
  else {
    response.writeHead(200, { 'content-length': size });
    createReadStream(path, { highWaterMark: 1 << 18 }).pipe(response);
  }
});
server.listen(0, '127.0.0.1', () => console.error(`listening at=${(server.address() as AddressInfo).port}`));
