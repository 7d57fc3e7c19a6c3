/* Keeps a journal of what a server asked the disk to keep, from which power_cut.py plays a power cut.
 *
 * Loaded by LD_PRELOAD. Each event is one line, written at once, so that lines of several threads do not mix:
 *
 *   C <inode> <name>              a file was made, or opened to be made
 *   R <name> <name>               a file was renamed
 *   U <name>                      a file was removed
 *   B <thread> <inode> <bytes>    a sync begins; so long is the file now
 *   E <thread>                    it has succeeded
 *
 * Names are those the server used; absolute ones are left out, for they lie outside its data directory.
 *
 * POWER_CUT_JOURNAL: the journal's file, absolute. POWER_CUT_FILES: a folder of the same filesystem in which each file
 * gets a second name, its inode, so that it is still there after it was replaced or removed. POWER_CUT_SYNC_US: what
 * each sync takes longer than the disk needs, microseconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int journal = -1;
static const char *files;
static useconds_t sync_us;
static FILE *(*libc_fopen)(const char *, const char *);

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("POWER_CUT_JOURNAL"), *delay = getenv("POWER_CUT_SYNC_US");
    const char *folder = getenv("POWER_CUT_FILES");
    files = folder ? strdup(folder) : NULL; /* Redis writes its title over its environment */
    sync_us = delay ? (useconds_t)atol(delay) : 0;
    libc_fopen = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, "fopen");
    if (name && files)
        journal = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void note(const char *format, ...) {
    char line[1024];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    if (journal >= 0 && (length >= (int)sizeof line || write(journal, line, (size_t)length) != length)) abort();
}

static void made(int fd, const char *name) {
    struct stat found;
    char second[1024];
    if (journal < 0 || fd < 0 || name[0] == '/' || fstat(fd, &found) || !S_ISREG(found.st_mode)) return;
    snprintf(second, sizeof second, "%s/%lu", files, (unsigned long)found.st_ino);
    if (link(name, second) && errno != EEXIST) abort(); /* it exists when the file is opened again */
    note("C %lu %s\n", (unsigned long)found.st_ino, name);
}

static int open_file(const char *name, int flags, mode_t mode) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, name, flags, mode);
    if (flags & O_CREAT) made(fd, name);
    return fd;
}

#define OPEN(function)                                \
    int function(const char *name, int flags, ...) {  \
        va_list rest;                                 \
        va_start(rest, flags);                        \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                 \
        return open_file(name, flags, mode);          \
    }
OPEN(open)
OPEN(open64)

#define FOPEN(function)                                       \
    FILE *function(const char *name, const char *mode) {      \
        FILE *file = libc_fopen(name, mode);                  \
        if (file && mode[0] != 'r') made(fileno(file), name); \
        return file;                                          \
    }
FOPEN(fopen)
FOPEN(fopen64)

int rename(const char *old, const char *new) {
    int failed = (int)syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0);
    if (!failed && old[0] != '/') note("R %s %s\n", old, new);
    return failed;
}

int unlink(const char *name) {
    int failed = (int)syscall(SYS_unlinkat, AT_FDCWD, name, 0);
    if (!failed && name[0] != '/') note("U %s\n", name);
    return failed;
}

static int sync_file(long call, int fd) {
    struct stat found = {0};
    long thread = syscall(SYS_gettid);
    fstat(fd, &found);
    /* What is written from here on may or may not be part of this sync; it is taken not to be. */
    note("B %ld %lu %ld\n", thread, (unsigned long)found.st_ino, (long)found.st_size);
    if (sync_us) usleep(sync_us);
    int failed = (int)syscall(call, fd);
    if (!failed) note("E %ld\n", thread);
    return failed;
}

int fsync(int fd) { return sync_file(SYS_fsync, fd); }

int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }
