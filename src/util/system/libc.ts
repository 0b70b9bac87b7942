import koffi from 'koffi';

/**
 * The system calls that Node lacks, through koffi. Where an address is a number, it is that of a `CallBuffer`.
 */
const library = koffi.load('libc.so.6');

export const libc = {
  read: library.func('int64_t read(int fd, uintptr_t buffer, size_t length)') as Call<
    [number, number, number]
  >,
  write: library.func('int64_t write(int fd, uintptr_t buffer, size_t length)') as Call<
    [number, number, number]
  >,
  poll: library.func('int poll(uintptr_t fds, unsigned long count, int timeout)') as Call<
    [number, number, number]
  >,
  ioctl: library.func('int ioctl(int fd, unsigned long request, void *argument)') as Call<
    [number, number, Uint8Array]
  >,
  fcntl: library.func('int fcntl(int fd, int command, int64_t argument)') as Call<[number, number, number]>,
  dup2: library.func('int dup2(int from, int to)') as Call<[number, number]>,
  eventfd: library.func('int eventfd(uint32_t initial, int flags)') as Call<[number, number]>,
  flock: library.func('int flock(int fd, int operation)') as Call<[number, number]>,
  sync_file_range: library.func(
    'int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags)',
  ) as Call<[number, number, number, number]>,
  syncfs: library.func('int syncfs(int fd)'),
  openat: library.func('int openat(int at, const void *name, int flags, unsigned int mode)') as Call<
    [number, Uint8Array, number, number]
  >,
  mkdirat: library.func('int mkdirat(int at, const void *name, unsigned int mode)') as Call<
    [number, Uint8Array, number]
  >,
  symlinkat: library.func('int symlinkat(const void *target, int at, const void *name)') as Call<
    [Uint8Array, number, Uint8Array]
  >,
  linkat: library.func(
    'int linkat(int from, const void *name, int to, const void *new_name, int flags)',
  ) as Call<[number, Uint8Array, number, Uint8Array, number]>,
  utimensat: library.func('int utimensat(int at, const void *name, const void *times, int flags)') as Call<
    [number, Uint8Array, Uint8Array, number]
  >,
  renameat2: library.func(
    'int renameat2(int from, const char *name, int to, const char *new_name, unsigned int flags)',
  ) as Call<[number, string, number, string, number]>,
  mount: library.func(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  ) as Call<[string, string, string, number, string]>,
  umount2: library.func('int umount2(const char *target, int flags)') as Call<[string, number]>,
  socketpair: library.func('int socketpair(int domain, int type, int protocol, void *fds)') as Call<
    [number, number, number, Uint8Array]
  >,
  socket: library.func('int socket(int domain, int type, int protocol)') as Call<[number, number, number]>,
  sendto: library.func(
    'int64_t sendto(int fd, const void *data, size_t length, int flags, const void *address, uint32_t address_length)',
  ) as Call<[number, Uint8Array, number, number, Uint8Array, number]>,
  recvmsg: library.func('int64_t recvmsg(int fd, void *message, int flags)') as Call<
    [number, Uint8Array, number]
  >,
  bind: library.func('int bind(int fd, const void *address, uint32_t address_length)') as Call<
    [number, Uint8Array, number]
  >,
  listen: library.func('int listen(int fd, int backlog)') as Call<[number, number]>,
  accept4: library.func('int accept4(int fd, void *address, void *address_length, int flags)') as Call<
    [number, null, null, number]
  >,
  setsockopt: library.func(
    'int setsockopt(int fd, int level, int name, const void *value, uint32_t length)',
  ) as Call<[number, number, number, Int32Array, number]>,
  mmap: library.func(
    'int64_t mmap(uintptr_t address, size_t length, int protection, int flags, int fd, int64_t offset)',
  ) as Call<[number, number, number, number, number, number]>,
  munmap: library.func('int munmap(uintptr_t address, size_t length)') as Call<[number, number]>,
};

type Call<A extends unknown[]> = (...args: A) => number;

/** The errno of the last call; read it at once. */
export function errno(): number {
  return koffi.errno();
}

/** Name of an errno, `EBUSY` and the like. */
export function errnoName(number: number): string {
  const found = Object.entries(koffi.os.errno).find(([, value]) => value === number);
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
  return koffi.view(address, length);
}

/** `syncfs` off the main thread: everything written to the file system of `fd` is on disk afterwards. */
export function syncFileSystem(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    libc.syncfs.async(fd, (error: Error | null, result: number) => {
      if (error) reject(error);
      else if (result < 0) reject(new Error('syncfs failed'));
      else resolve();
    });
  });
}
