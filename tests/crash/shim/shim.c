/*
 * Stands between a program and the C library's file calls (LD_PRELOAD), for files under one
 * directory. It can write down each call with its data, and it can make calls fail.
 *
 * SHIM_ROOT     the directory.
 * SHIM_CONTROL  a file that holds `struct control`, mapped; a test changes it while the program runs.
 * SHIM_LOG      where calls are written down, if at all.
 * SHIM_WEAK     the end of a path: fdatasync of this file is no sync. Of the database it does what
 *               sled asks for, sync_file_range, as if the durable flush were not there; of another
 *               file it does nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE = 1, TRUNCATE, SYNC, RANGE, CREATE, RENAME, UNLINK, MKDIR };

struct control {
  _Atomic uint64_t now;   /* counts the beginnings and ends of calls */
  _Atomic uint64_t hits;  /* calls that were made to fail */
  _Atomic uint32_t kinds; /* which fail: bit 1 << kind */
  int32_t error;          /* with this errno */
  _Atomic int64_t skip;   /* after so many more went well */
  _Atomic int64_t times;  /* so many of them */
  char suffix[64];        /* of the path; empty for any */
};

struct record {
  uint64_t start, end, inode, offset, length;
  uint32_t kind, paths; /* bytes of one or two paths, each with a zero byte */
};

static struct control *control;
static char root[4096];
static size_t root_length;
static int log_fd = -1;
static const char *weak;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
  const char *folder = getenv("SHIM_ROOT"), *shared = getenv("SHIM_CONTROL");
  const char *log = getenv("SHIM_LOG");
  if (!folder || !shared) return;
  int fd = syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) abort();
  void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) abort();
  if (log) log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  weak = getenv("SHIM_WEAK");
  root_length = strlen(folder);
  if (root_length >= sizeof root) abort();
  memcpy(root, folder, root_length + 1);
  control = map;
}

static int inside(const char *path) {
  return control && strncmp(path, root, root_length) == 0 &&
         (path[root_length] == '/' || path[root_length] == 0);
}

/* The path of a descriptor, if it is one of ours. */
static int known(int fd, char *path) {
  char link[64];
  if (!control) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, 4095);
  if (length <= 0) return 0;
  path[length] = 0;
  return inside(path);
}

static const char *absolute(const char *path, char *whole) {
  if (!control) return NULL;
  if (path[0] == '/') {
    snprintf(whole, 4096, "%s", path);
  } else {
    char here[2048];
    if (!getcwd(here, sizeof here)) return NULL;
    snprintf(whole, 4096, "%s/%.2000s", here, path);
  }
  return inside(whole) ? whole : NULL;
}

static uint64_t tick(void) { return atomic_fetch_add(&control->now, 1); }

static void put(const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    ssize_t written = syscall(SYS_write, log_fd, at, length);
    if (written < 0) {
      if (errno == EINTR) continue;
      abort();
    }
    at += written;
    length -= written;
  }
}

static void note(struct record record, const char *one, const char *two, const void *data) {
  if (log_fd < 0) return;
  int saved = errno;
  size_t first = one ? strlen(one) + 1 : 0, second = two ? strlen(two) + 1 : 0;
  record.paths = first + second;
  pthread_mutex_lock(&log_lock);
  put(&record, sizeof record);
  put(one, first);
  put(two, second);
  if (data) put(data, record.length);
  pthread_mutex_unlock(&log_lock);
  errno = saved;
}

/* Whether this call is to fail; then errno is set. */
static int fails(enum kind kind, const char *path) {
  if (!(atomic_load(&control->kinds) & (1u << kind))) return 0;
  size_t length = strlen(path), suffix = strnlen(control->suffix, sizeof control->suffix);
  if (length < suffix || strncmp(path + length - suffix, control->suffix, suffix) != 0) return 0;
  if (atomic_fetch_sub(&control->skip, 1) > 0) return 0;
  if (atomic_fetch_sub(&control->times, 1) <= 0) return 0;
  atomic_fetch_add(&control->hits, 1);
  errno = control->error;
  return 1;
}

static uint64_t inode(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

/* After a write of `length` bytes; a negative offset stands for "where the file was". */
static void wrote(int fd, uint64_t start, off64_t offset, const void *data, ssize_t length) {
  if (length <= 0) return;
  if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - length;
  note((struct record){.start = start, .end = tick(), .inode = inode(fd), .offset = offset,
                       .length = length, .kind = WRITE}, NULL, NULL, data);
}

ssize_t write(int fd, const void *data, size_t length) {
  char path[4096];
  if (!known(fd, path)) return REAL(write)(fd, data, length);
  if (fails(WRITE, path)) return -1;
  uint64_t start = tick();
  ssize_t written = REAL(write)(fd, data, length);
  wrote(fd, start, -1, data, written);
  return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  char path[4096];
  if (!known(fd, path)) return REAL(pwrite64)(fd, data, length, offset);
  if (fails(WRITE, path)) return -1;
  uint64_t start = tick();
  ssize_t written = REAL(pwrite64)(fd, data, length, offset);
  wrote(fd, start, offset, data, written);
  return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  return pwrite64(fd, data, length, offset);
}

/* One buffer after the other: as good for a reader, and each a write of its own here. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
  char path[4096];
  if (!known(fd, path)) return REAL(writev)(fd, parts, count);
  for (int i = 0; i < count; i++)
    if (parts[i].iov_len > 0) return write(fd, parts[i].iov_base, parts[i].iov_len);
  return 0;
}

int ftruncate64(int fd, off64_t length) {
  char path[4096];
  if (!known(fd, path)) return REAL(ftruncate64)(fd, length);
  if (fails(TRUNCATE, path)) return -1;
  uint64_t start = tick();
  int result = REAL(ftruncate64)(fd, length);
  if (result == 0)
    note((struct record){.start = start, .end = tick(), .inode = inode(fd), .offset = length,
                         .kind = TRUNCATE}, NULL, NULL, NULL);
  return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* A directory's sync is told by its path. */
static void synced(int fd, uint64_t start, enum kind kind, const char *path) {
  struct stat status;
  int folder = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
  note((struct record){.start = start, .end = tick(), .inode = status.st_ino, .kind = kind},
       folder ? path : NULL, NULL, NULL);
}

int fsync(int fd) {
  char path[4096];
  if (!known(fd, path)) return REAL(fsync)(fd);
  if (fails(SYNC, path)) return -1;
  uint64_t start = tick();
  int result = REAL(fsync)(fd);
  if (result == 0) synced(fd, start, SYNC, path);
  return result;
}

static int ends_in(const char *path, const char *end) {
  size_t length = strlen(path), part = strlen(end);
  return length >= part && strcmp(path + length - part, end) == 0;
}

int fdatasync(int fd) {
  char path[4096];
  if (!known(fd, path)) return REAL(fdatasync)(fd);
  if (fails(SYNC, path)) return -1;
  int is_weak = weak && ends_in(path, weak);
  uint64_t start = tick();
  int result = 0;
  if (!is_weak) result = REAL(fdatasync)(fd);
  else if (ends_in(path, "/sled/db")) result = REAL(sync_file_range)(fd, 0, 0, 7);
  if (result == 0) synced(fd, start, is_weak ? RANGE : SYNC, path);
  return result;
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
  char whole[4096];
  const char *ours = folder == AT_FDCWD || path[0] == '/' ? absolute(path, whole) : NULL;
  if (!ours) return syscall(SYS_openat, folder, path, flags, mode);
  int was = syscall(SYS_faccessat, AT_FDCWD, ours, F_OK) == 0;
  if (!was && (flags & O_CREAT) && fails(CREATE, ours)) return -1;
  uint64_t start = tick();
  int fd = syscall(SYS_openat, folder, path, flags, mode);
  if (fd < 0) return fd;
  if (!was && (flags & O_CREAT))
    note((struct record){.start = start, .end = tick(), .inode = inode(fd), .kind = CREATE}, ours,
         NULL, NULL);
  else if (flags & O_TRUNC)
    note((struct record){.start = start, .end = tick(), .inode = inode(fd), .kind = TRUNCATE}, NULL,
         NULL, NULL);
  return fd;
}

#define MODE(flags)                                \
  mode_t mode = 0;                                 \
  if ((flags) & (O_CREAT | O_TMPFILE)) {           \
    va_list more;                                  \
    va_start(more, flags);                         \
    mode = va_arg(more, mode_t);                   \
    va_end(more);                                  \
  }

int open(const char *path, int flags, ...) {
  MODE(flags)
  return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int open64(const char *path, int flags, ...) {
  MODE(flags)
  return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *path, int flags, ...) {
  MODE(flags)
  return opened(folder, path, flags | O_LARGEFILE, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
  MODE(flags)
  return opened(folder, path, flags | O_LARGEFILE, mode);
}

int rename(const char *from, const char *to) {
  char one[4096], two[4096];
  const char *ours = absolute(from, one);
  if (!ours || !absolute(to, two)) return REAL(rename)(from, to);
  if (fails(RENAME, one)) return -1;
  uint64_t start = tick();
  int result = REAL(rename)(from, to);
  if (result == 0)
    note((struct record){.start = start, .end = tick(), .kind = RENAME}, one, two, NULL);
  return result;
}

int unlink(const char *path) {
  char whole[4096];
  if (!absolute(path, whole)) return REAL(unlink)(path);
  if (fails(UNLINK, whole)) return -1;
  uint64_t start = tick();
  int result = REAL(unlink)(path);
  if (result == 0)
    note((struct record){.start = start, .end = tick(), .kind = UNLINK}, whole, NULL, NULL);
  return result;
}

int mkdir(const char *path, mode_t mode) {
  char whole[4096];
  if (!absolute(path, whole)) return REAL(mkdir)(path, mode);
  if (fails(MKDIR, whole)) return -1;
  uint64_t start = tick();
  int result = REAL(mkdir)(path, mode);
  if (result == 0)
    note((struct record){.start = start, .end = tick(), .kind = MKDIR}, whole, NULL, NULL);
  return result;
}
