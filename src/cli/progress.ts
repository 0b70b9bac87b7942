const INTERVAL_MS = 100;

/** One line on a terminal that tells how far a long job is. In a pipe it stays quiet. */
export class ProgressLine {
  readonly #describe: () => string;
  readonly #enabled = process.stderr.isTTY === true;
  #next = 0;
  #shown = false;

  constructor(describe: () => string) {
    this.#describe = describe;
  }

  /** Shows the state if it is time to; cheap enough to call for every file. */
  update(): void {
    if (!this.#enabled) return;
    const now = performance.now();
    if (now < this.#next) return;
    this.#next = now + INTERVAL_MS;
    this.#shown = true;
    const width = (process.stderr.columns ?? 80) - 1;
    process.stderr.write(`\r\x1b[K${this.#describe().slice(0, width)}`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#shown) process.stderr.write('\r\x1b[K');
    this.#shown = false;
  }
}

/** Does work that looks at store paths and calls `counted` for each; shows how many there were. */
export async function countingPaths<T>(work: (counted: () => void) => Promise<T> | T): Promise<T> {
  let paths = 0;
  const line = new ProgressLine(() => `${paths} store paths`);
  try {
    return await work(() => {
      paths++;
      line.update();
    });
  } finally {
    line.clear();
  }
}
