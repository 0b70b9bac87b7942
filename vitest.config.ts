import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
    globalSetup: 'test/helpers/s3-global.ts',
    // Two cores: more files at once only make each slower.
    maxWorkers: 2,
  },
});
