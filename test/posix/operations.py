#!/usr/bin/env python3
"""Runs file operations below a directory, and prints the result or the error of each, a line of JSON an operation.

    operations.py DIRECTORY                 a fixed set of operations on everything that is there: nothing of it should
                                            change a read-only file system
    operations.py DIRECTORY --script FILE   the operations of a file (- for standard input), a JSON list of
                                            [name, argument...]; then the whole tree as it is at the end

Two file systems agree when both runs print the same:

    diff <(operations.py /mnt/a) <(operations.py /mnt/b)

Left out is what file systems need not agree on: inode and device numbers (but for which names share one), the sizes,
blocks and link counts of directories, and extended attributes.
"""

import errno
import fcntl
import json
import mmap
import os
import stat
import sys

MOST = 1 << 20


def metadata(path):
    s = os.lstat(path)
    shown = {"type": stat.S_IFMT(s.st_mode), "mode": stat.S_IMODE(s.st_mode), "owner": [s.st_uid, s.st_gid]}
    if not stat.S_ISDIR(s.st_mode):
        shown.update(size=s.st_size, links=s.st_nlink)
    return shown


def read(path, offset, length):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.pread(fd, length, offset).hex()
    finally:
        os.close(fd)


def opened(path, flags, mode=0o600):
    os.close(os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, mode))
    return "opened"


def write(path, offset, text):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return os.pwrite(fd, text.encode(), offset)
    finally:
        os.close(fd)


def create(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        return os.write(fd, text.encode())
    finally:
        os.close(fd)


def append(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    try:
        return os.write(fd, text.encode())
    finally:
        os.close(fd)


def mapped(path):
    """A change through a shared mapping."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        with mmap.mmap(fd, 0) as memory:
            memory[0:1] = b"M"
            memory.flush()
        return "mapped"
    finally:
        os.close(fd)


def reread(path):
    """What two descriptors see, one from before a change, and a private mapping."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        size = os.fstat(fd).st_size
        seen = os.pread(fd, MOST, 0).hex()
        if size > 0:
            with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory:
                assert memory[: size].hex() == seen or size > MOST
        return [size, seen[:200], os.lseek(fd, 0, os.SEEK_END)]
    finally:
        os.close(fd)


def holes(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return [os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE)]
    finally:
        os.close(fd)


def lock_both(first, second):
    """Two files can be locked at once, unless they are one."""
    a, b = os.open(first, os.O_RDONLY), os.open(second, os.O_RDONLY)
    try:
        fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "locked"
    finally:
        os.close(a)
        os.close(b)


def exchange(first, second):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(first), -100, os.fsencode(second), 2) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def rename(first, second):
    os.rename(first, second)


OPERATIONS = {
    "lstat": metadata,
    "stat": lambda path: stat.S_IFMT(os.stat(path).st_mode),
    "list": lambda path: sorted(os.fsencode(name).hex() for name in os.listdir(path)),
    "read": read,
    "reread": reread,
    "holes": holes,
    "readlink": os.readlink,
    "access": lambda path, mode: os.access(path, mode, follow_symlinks=True),
    "open": opened,
    "write": write,
    "create": create,
    "append": append,
    "mapped": mapped,
    "truncate": os.truncate,
    "chmod": os.chmod,
    "chown": lambda path, owner: os.chown(path, owner, owner, follow_symlinks=False),
    "utime": lambda path: os.utime(path, (5, 5), follow_symlinks=False),
    "rename": rename,
    "exchange": exchange,
    "link": lambda first, second: os.link(first, second, follow_symlinks=False),
    "unlink": os.unlink,
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "symlink": lambda target, path: os.symlink(target, path),
    "lock": lock_both,
    "mkfifo": os.mkfifo,
}


def run(name, arguments):
    try:
        return OPERATIONS[name](*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, error.errno)
    except ValueError as error:
        return str(error)


def everything(top):
    found = []
    for directory, names, files in os.walk(top):
        names.sort()
        found += [os.path.join(directory, name) for name in names + sorted(files)]
    return [top] + found


def tree(top):
    """All that a tree is, and which names in it are one file."""
    groups = {}
    for path in everything(top):
        shown = metadata(path)
        kind = shown["type"]
        if kind == stat.S_IFLNK:
            shown["target"] = os.readlink(path)
        elif kind == stat.S_IFREG and os.access(path, os.R_OK):
            shown["contents"] = reread(path)
        s = os.lstat(path)
        if not stat.S_ISDIR(s.st_mode):
            shown["same as"] = groups.setdefault((s.st_dev, s.st_ino), os.path.relpath(path, top))
        yield os.path.relpath(path, top), shown


def fixed(top):
    """Operations on everything that is there, and on what is not."""
    paths = everything(top)
    files = [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
    for path in paths:
        yield "lstat", path
        yield "stat", path
        yield "list", path
        yield "readlink", path
        yield "lstat", path + "/"
        yield "lstat", path + "/nothing"
        yield "list", path + "/."
        yield "open", path + "/" + "n" * 256, os.O_RDONLY
        for mode in (os.F_OK, os.R_OK, os.W_OK, os.X_OK):
            yield "access", path, mode
        for flags in (
            os.O_RDONLY,
            os.O_WRONLY,
            os.O_RDWR,
            os.O_RDONLY | os.O_DIRECTORY,
            os.O_RDONLY | os.O_NOFOLLOW,
            os.O_PATH | os.O_NOFOLLOW,
            os.O_RDONLY | os.O_TRUNC,
            os.O_WRONLY | os.O_CREAT,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL,
            os.O_WRONLY | os.O_TMPFILE,
        ):
            yield "open", path, flags
        for offset, length in ((0, 10), (4090, 20), (1 << 20, 10), (1 << 40, 1)):
            yield "read", path, offset, length
        yield "reread", path
        if path in files:
            yield "holes", path
        yield "create", path, "x"
        yield "create", path + "/new", "x"
        yield "write", path, 0, "x"
        yield "append", path, "x"
        yield "mapped", path
        yield "truncate", path, 3
        yield "chmod", path, 0o700
        yield "chown", path, 7
        yield "utime", path
        yield "mkdir", path
        yield "mkdir", path + "/new"
        yield "mkfifo", path + "/new"
        yield "symlink", "x", path
        yield "symlink", "x", path + "/new"
        yield "link", path, path + ".new"
        yield "rename", path, path + ".new"
        yield "rename", path, path + "/new"
        yield "exchange", path, paths[-1]
        yield "rmdir", path
        yield "unlink", path
    for first, second in zip(files, files[1:]):
        yield "lock", first, second


def main():
    top = sys.argv[1]
    os.umask(0o022)
    os.chdir(top)
    if len(sys.argv) == 2:
        for name, *arguments in fixed("."):
            print(json.dumps([name, *arguments, run(name, arguments)]))
    else:
        source = sys.stdin if sys.argv[3] == "-" else open(sys.argv[3])
        for name, *arguments in json.load(source):
            print(json.dumps([name, *arguments, run(name, arguments)]))
    for path, shown in tree("."):
        print(json.dumps(["at the end", path, shown], sort_keys=True))


main()
