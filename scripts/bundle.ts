// Puts the modules of each built program together, in a few files: the command starts in two thirds of the time then.
// What is imported when it is needed stays apart, and so do packages.
import { join, relative } from 'node:path';
import { rolldown } from 'rolldown';

const dist = join(import.meta.dirname, '../dist');

/** What Node is told to run: the command, its threads, and the process that reads a damaged database. */
const PROGRAMS = [
  'cli/main',
  'mount/worker',
  'castore/blob/cut-thread',
  'castore/local/ahead/thread',
  'castore/large-directory-thread',
  'nix/nar/sha256-thread',
  'util/compression/bzip2-thread',
  'store/keeping/check/process',
];
const CHUNKS = 'chunks';
const ORIGIN = '__origin_of_module__';

const bundle = await rolldown({
  input: Object.fromEntries(PROGRAMS.map((name) => [name, join(dist, `${name}.js`)])),
  external: (id) => !/^[./]|^(commander|lru-cache)$/.test(id),
  platform: 'node',
  plugins: [
    {
      // A module finds what lies beside it by its own place, wherever its code is put.
      name: 'origin',
      transform: (code, id) =>
        code.includes('import.meta.url')
          ? code.replaceAll('import.meta.url', `${ORIGIN}(${JSON.stringify(relative(dist, id))})`)
          : undefined,
      renderChunk: (code, { fileName }) => {
        const up =
          fileName
            .split('/')
            .slice(1)
            .map(() => '../')
            .join('') || './';
        return code.replaceAll(
          new RegExp(`${ORIGIN}\\("([^"]*)"\\)`, 'g'),
          (_, origin) => `new URL("${up}${origin}", import.meta.url).href`,
        );
      },
    },
  ],
});
await bundle.write({
  dir: dist,
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: `${CHUNKS}/[name]-[hash].js`,
});
await bundle.close();
