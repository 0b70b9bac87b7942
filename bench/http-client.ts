/**
 * Downloads a URL several times at once, and throws away what comes: `http-client.ts PORT PATH COUNT`. Prints
 * the seconds and the bytes of all bodies.
 */
import { connect } from 'node:net';

const [port, path, count] = process.argv.slice(2);
const memory = Buffer.alloc(1 << 18);
const begun = performance.now();
let bytes = 0;
await Promise.all(Array.from({ length: Number(count) }, download));
console.log(JSON.stringify({ seconds: (performance.now() - begun) / 1e3, bytes }));

function download(): Promise<void> {
  return new Promise((resolve, reject) => {
    let head = '';
    let left: number | undefined;
    const callback = (length: number) => {
      let body = length;
      if (left === undefined) {
        head += memory.toString('latin1', 0, length);
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) return true;
        left = Number(/^content-length: (\d+)/im.exec(head)![1]);
        body = head.length - end - 4;
      }
      bytes += body;
      left -= body;
      return true;
    };
    const socket = connect({ port: Number(port), host: '127.0.0.1', onread: { buffer: memory, callback } });
    socket.on('error', reject);
    socket.on('close', () => (left === 0 ? resolve() : reject(new Error(`a download ended early: ${head}`))));
    socket.write(`GET ${path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n`);
  });
}
