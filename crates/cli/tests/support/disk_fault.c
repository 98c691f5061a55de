/* A disk that fails when it is told to, for tests of real nodes.
 *
 * The tests compile this and put it in front of the C library (LD_PRELOAD): a node's own code is the one
 * that is released, and what it gets back from the system is what a full, a broken or a hanging disk
 * gives. Only the files of a database (node.db*) are concerned. What the disk does stands in a file beside
 * the data directory, DIRECTORY.fault:
 *
 *   enospc    what needs room fails with "no space left on device"
 *   eio       every write and sync fails with "input/output error"
 *   hang      every read, write and sync waits until the file says something else
 *   slow N    every sync takes N milliseconds more
 *
 * Nothing there, or nothing in it: the disk works.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum call { READ, WRITE, GROW, SYNC };

/* The control file of the directory that a database's file is in; 0 for any other file. */
static int control_of(int fd, char *control, size_t size) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    char *name = strrchr(path, '/');
    if (!name || strncmp(name, "/node.db", 8) != 0) return 0;
    *name = 0;
    return snprintf(control, size, "%s.fault", path) < (int)size;
}

/* What the disk does at present. System calls are made directly: read() is one of those below. */
static void word_of(const char *control, char *word, size_t size) {
    word[0] = 0;
    long fd = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return;
    long length = syscall(SYS_read, (int)fd, word, size - 1);
    syscall(SYS_close, (int)fd);
    word[length > 0 ? length : 0] = 0;
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, (ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* The error that a call ends with, or 0 where the system is to be asked. */
static int fault(int fd, enum call call) {
    int before = errno, error = 0;
    char control[PATH_MAX], word[64];
    if (control_of(fd, control, sizeof control)) {
        for (word_of(control, word, sizeof word); strncmp(word, "hang", 4) == 0;
             word_of(control, word, sizeof word))
            pause_ms(5);
        if (strncmp(word, "enospc", 6) == 0 && (call == WRITE || call == GROW)) error = ENOSPC;
        else if (strncmp(word, "eio", 3) == 0 && call != READ) error = EIO;
        else if (strncmp(word, "slow", 4) == 0 && call == SYNC) pause_ms(atol(word + 4));
    }
    errno = before;
    return error;
}

#define NEXT(name)                                                \
    static __typeof__(&name) next;                                \
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, #name)

#define FAIL(fd, call)                                            \
    do {                                                          \
        int error = fault(fd, call);                              \
        if (error) {                                              \
            errno = error;                                        \
            return -1;                                            \
        }                                                         \
    } while (0)

ssize_t read(int fd, void *bytes, size_t count) {
    NEXT(read);
    FAIL(fd, READ);
    return next(fd, bytes, count);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
    NEXT(pread);
    FAIL(fd, READ);
    return next(fd, bytes, count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    NEXT(pread64);
    FAIL(fd, READ);
    return next(fd, bytes, count, at);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    NEXT(write);
    FAIL(fd, WRITE);
    return next(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    NEXT(pwrite);
    FAIL(fd, WRITE);
    return next(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    NEXT(pwrite64);
    FAIL(fd, WRITE);
    return next(fd, bytes, count, at);
}

int ftruncate(int fd, off_t length) {
    NEXT(ftruncate);
    FAIL(fd, length > 0 ? GROW : SYNC);
    return next(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    NEXT(ftruncate64);
    FAIL(fd, length > 0 ? GROW : SYNC);
    return next(fd, length);
}

int fsync(int fd) {
    NEXT(fsync);
    FAIL(fd, SYNC);
    return next(fd);
}

int fdatasync(int fd) {
    NEXT(fdatasync);
    FAIL(fd, SYNC);
    return next(fd);
}
