/* Preloaded into a night, its JVM and its Python workers: a disk that is full and a clock that is wrong.

   LIME_FAULT_STATE names a file of two 64-bit numbers that the harness changes while the night runs: whether the disk
   is full, and by how many seconds the clock is off. LIME_FAULT_DISK is the folder whose files that disk holds.
   System calls are made directly, so that nothing here depends on whose `write` comes next. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t nothing[2];
static const volatile int64_t *state = nothing;

__attribute__((constructor)) static void map_state(void)
{
    const char *name = getenv("LIME_FAULT_STATE");
    const int file = name ? open(name, O_RDONLY) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof nothing, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        state = mapped;
}

static int is_full(int file)
{
    const char *disk = getenv("LIME_FAULT_DISK");
    char link[64], path[4096];
    if (!state[0] || !disk)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path);
    const size_t prefix = strlen(disk);
    return length > (ssize_t)prefix && !memcmp(path, disk, prefix) && path[prefix] == '/';
}

#define WRITES(NAME, DECLARED, PASSED) \
    ssize_t NAME DECLARED \
    { \
        if (is_full(file)) { \
            errno = ENOSPC; \
            return -1; \
        } \
        return syscall PASSED; \
    }

WRITES(write, (int file, const void *bytes, size_t count), (SYS_write, file, bytes, count))
WRITES(writev, (int file, const struct iovec *parts, int count), (SYS_writev, file, parts, count))
WRITES(pwrite, (int file, const void *bytes, size_t count, off_t at), (SYS_pwrite64, file, bytes, count, at))
WRITES(pwrite64, (int file, const void *bytes, size_t count, off64_t at), (SYS_pwrite64, file, bytes, count, at))

int clock_gettime(clockid_t clock, struct timespec *now)
{
    const int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += state[1];
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise))
        return -1;
    *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *found)
{
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise))
        return -1;
    if (found)
        *found = precise.tv_sec;
    return precise.tv_sec;
}
