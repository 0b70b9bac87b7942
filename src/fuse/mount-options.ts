import { UsageError } from '../util/errors.ts';

/** The name of the file system, and of what is mounted if nobody names that. */
export const NAME = 'tvix-store';

/** Options of every mount, as mount(8) names them. */
export const ALWAYS = ['ro', 'nosuid', 'nodev', 'noatime', 'default_permissions'];

/** Those that are flags of the system call. */
const FLAGS: Readonly<Record<string, number>> = {
  ro: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  nosymfollow: 256,
  noatime: 1024,
};
/** Those with a value, for the kernel's security modules. */
const CONTEXTS = ['context', 'fscontext', 'defcontext', 'rootcontext'];
/** What makes no difference: it is so anyway. */
const SO_ANYWAY = ['exec', 'symfollow', 'nodiratime', ...ALWAYS];
/** Options that are known and cannot be had. */
const REFUSED: Readonly<Record<string, string>> = {
  rw: 'the store is read-only',
  suid: 'no file of a store has another user',
  dev: 'there are no devices in a store',
  remount: 'unmount and mount it again',
};

/** Options of a mount. */
export interface MountOptions {
  /** What is mounted, as the table of mounts shows it. */
  readonly source: string;
  /** For the kernel or `fusermount3`, besides those of every mount. */
  readonly others: readonly string[];
}

/** Cuts a list as mount(8) has it at its commas; those in double quotes are no ends. */
export function splitOptions(list: string): string[] {
  if (/^(?:[^"]|"[^"]*")*$/s.test(list)) return list.match(/(?:[^,"]|"[^"]*")+/gs) ?? [];
  throw new UsageError(`there is a quote without an end in ${list}`);
}

/** Checks options. Throws a UsageError for those that mean nothing here. */
export function parseMountOptions(options: readonly string[]): MountOptions {
  let source = NAME;
  const others: string[] = [];
  for (const option of options) {
    const [name, value] = option.split(/=(.*)/s) as [string, string?];
    if (name === 'fsname' && value) source = value.replaceAll('"', '');
    else if (option === 'allow_other' || Object.hasOwn(FLAGS, option) || (CONTEXTS.includes(name) && value))
      others.push(option);
    else if (Object.hasOwn(REFUSED, option))
      throw new UsageError(`-o ${option} is not possible: ${REFUSED[option]}`);
    else if (!SO_ANYWAY.includes(option)) {
      const known = [
        ...Object.keys(FLAGS),
        ...SO_ANYWAY,
        'allow_other',
        ...CONTEXTS.map((one) => `${one}=…`),
        'fsname=…',
      ];
      throw new UsageError(`-o ${option} is not known; known are ${[...new Set(known)].join(', ')}`);
    }
  }
  return { source, others: [...new Set(others)].filter((option) => !ALWAYS.includes(option)) };
}

/** Options as the system call takes them: flags, and the rest in words. */
export function flagsOf(options: readonly string[]): { flags: number; data: string[] } {
  return {
    flags: options.reduce((flags, option) => flags | (FLAGS[option] ?? 0), 0),
    data: options.filter((option) => !FLAGS[option]),
  };
}
