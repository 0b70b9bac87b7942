import type { KoffiFunc } from 'koffi';
import { lazyPackage } from '../lazy.ts';

export const koffi = lazyPackage<typeof import('koffi')>('koffi');

/** The system calls that Node lacks. An address that is a number is that of a `CallBuffer`. */
const PROTOTYPES = {
  read: 'int64_t read(int fd, uintptr_t buffer, size_t length)',
  close: 'int close(int fd)',
  pipe2: 'int pipe2(void *fds, int flags)',
  splice:
    'int64_t splice(int from, uintptr_t from_offset, int to, uintptr_t to_offset, size_t length, unsigned int flags)',
  write: 'int64_t write(int fd, uintptr_t buffer, size_t length)',
  poll: 'int poll(uintptr_t fds, unsigned long count, int timeout)',
  ioctl: 'int ioctl(int fd, unsigned long request, void *argument)',
  fcntl: 'int fcntl(int fd, int command, int64_t argument)',
  dup2: 'int dup2(int from, int to)',
  setsid: 'int setsid()',
  eventfd: 'int eventfd(uint32_t initial, int flags)',
  flock: 'int flock(int fd, int operation)',
  sync_file_range: 'int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags)',
  syncfs: 'int syncfs(int fd)',
  openat: 'int openat(int at, const void *name, int flags, unsigned int mode)',
  mkdirat: 'int mkdirat(int at, const void *name, unsigned int mode)',
  symlinkat: 'int symlinkat(const void *target, int at, const void *name)',
  linkat: 'int linkat(int from, const void *name, int to, const void *new_name, int flags)',
  utimensat: 'int utimensat(int at, const void *name, const void *times, int flags)',
  renameat2: 'int renameat2(int from, const char *name, int to, const char *new_name, unsigned int flags)',
  mount:
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  umount2: 'int umount2(const char *target, int flags)',
  socketpair: 'int socketpair(int domain, int type, int protocol, void *fds)',
  socket: 'int socket(int domain, int type, int protocol)',
  sendto:
    'int64_t sendto(int fd, const void *data, size_t length, int flags, const void *address, uint32_t address_length)',
  recvmsg: 'int64_t recvmsg(int fd, void *message, int flags)',
  bind: 'int bind(int fd, const void *address, uint32_t address_length)',
  listen: 'int listen(int fd, int backlog)',
  accept4: 'int accept4(int fd, void *address, void *address_length, int flags)',
  setsockopt: 'int setsockopt(int fd, int level, int name, const void *value, uint32_t length)',
  getsockopt: 'int getsockopt(int fd, int level, int name, void *value, void *length)',
  mmap: 'int64_t mmap(uintptr_t address, size_t length, int protection, int flags, int fd, int64_t offset)',
  munmap: 'int munmap(uintptr_t address, size_t length)',
  getpwnam: 'uintptr_t getpwnam(const char *name)',
  getgrnam: 'uintptr_t getgrnam(const char *name)',
  pthread_sigmask: 'int pthread_sigmask(int how, const void *set, void *before)',
  mallopt: 'int mallopt(int parameter, int value)',
  malloc_trim: 'int malloc_trim(size_t kept)',
  _exit: 'int _exit(int status)',
};

/** What they take; all give a number, below 0 for a failure. */
interface Arguments {
  read: [number, number, number];
  close: [number];
  pipe2: [Uint8Array, number];
  splice: [number, number, number, number, number, number];
  write: [number, number, number];
  poll: [number, number, number];
  ioctl: [number, number, Uint8Array];
  fcntl: [number, number, number];
  dup2: [number, number];
  setsid: [];
  eventfd: [number, number];
  flock: [number, number];
  sync_file_range: [number, number, number, number];
  syncfs: [number];
  openat: [number, Uint8Array, number, number];
  mkdirat: [number, Uint8Array, number];
  symlinkat: [Uint8Array, number, Uint8Array];
  linkat: [number, Uint8Array, number, Uint8Array, number];
  utimensat: [number, Uint8Array, Uint8Array, number];
  renameat2: [number, string, number, string, number];
  mount: [string, string, string, number, string];
  umount2: [string, number];
  socketpair: [number, number, number, Uint8Array];
  socket: [number, number, number];
  sendto: [number, Uint8Array, number, number, Uint8Array, number];
  recvmsg: [number, Uint8Array, number];
  bind: [number, Uint8Array, number];
  listen: [number, number];
  accept4: [number, null, null, number];
  setsockopt: [number, number, number, Int32Array, number];
  getsockopt: [number, number, number, Uint8Array, Uint8Array];
  mmap: [number, number, number, number, number, number];
  munmap: [number, number];
  getpwnam: [string];
  getgrnam: [string];
  pthread_sigmask: [number, Uint8Array, null];
  mallopt: [number, number];
  malloc_trim: [number];
  _exit: [number];
}

type Libc = { readonly [K in keyof Arguments]: (...args: Arguments[K]) => number };

/** Calls into the C library, each bound when it is first used. */
export const libc = {} as Libc;
for (const [name, prototype] of Object.entries(PROTOTYPES)) {
  Object.defineProperty(libc, name, {
    configurable: true,
    get() {
      const value = koffi().load('libc.so.6').func(prototype);
      Object.defineProperty(libc, name, { value });
      return value;
    },
  });
}

/** The errno of the last call; read it at once. */
export function errno(): number {
  return koffi().errno();
}

/** Name of an errno, `EBUSY` and the like. */
export function errnoName(number: number): string {
  const found = Object.entries(koffi().os.errno).find(([, value]) => value === number);
  return found?.[0] ?? `errno ${number}`;
}

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

/** Makes calls on a descriptor say EAGAIN rather than wait. */
export function setNonBlocking(fd: number): void {
  libc.fcntl(fd, F_SETFL, libc.fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
}

/**
 * The memory at an address. Whoever unmaps it must have let go of everything made from this before: the next
 * access would end the process.
 */
export function memoryAt(address: number, length: number): ArrayBuffer {
  return koffi().view(address, length);
}

/** `syncfs` off the main thread: everything written to the file system of `fd` is on disk afterwards. */
export function syncFileSystem(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    (libc.syncfs as KoffiFunc<typeof libc.syncfs>).async(fd, (error: Error | null, result: number) => {
      if (error) reject(error);
      else if (result < 0) reject(new Error('syncfs failed'));
      else resolve();
    });
  });
}
