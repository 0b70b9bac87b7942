#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';

// Our heap is small, and what goes through it are buffers outside of it. V8 takes those for a reason to mark the
// heap bit by bit, without end: two thirds of the processor time of a daemon that sends large files. This comes
// before the program is loaded: V8 crashes now and then when it has already begun.
setFlagsFromString('--no-incremental-marking');
await import('./run.ts');
