// Preloaded into a program of ours (NODE_OPTIONS=--import): throws out of an event, as a dependency might. FAULT_AT is
// the class of the emitter and the event, as in "Socket:readable"; it happens once for each time FAULT_FILE is made.
import { EventEmitter } from 'node:events';
import { rmSync } from 'node:fs';

const [emitter, event] = process.env.FAULT_AT.split(':');
const { emit } = EventEmitter.prototype;

EventEmitter.prototype.emit = function (name, ...args) {
  if (name === event && this.constructor.name === emitter && isDue()) {
    throw new Error(`thrown by the test out of ${process.env.FAULT_AT}`);
  }
  return emit.call(this, name, ...args);
};

function isDue() {
  try {
    rmSync(process.env.FAULT_FILE);
    return true;
  } catch {
    return false;
  }
}
