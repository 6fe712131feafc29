/*
 * Stands between a program and the C library's file calls (LD_PRELOAD), for files under one
 * directory. It can write down each call with its data, and it can make calls fail or hang. It can
 * set the wall clock, too.
 *
 * SHIM_ROOT     the directory.
 * SHIM_CONTROL  a file that holds `struct control`, mapped; a test changes it while the program runs.
 * SHIM_LOG      where calls are written down, if at all.
 * SHIM_WEAK     the end of a path: fdatasync of this file is no sync. Of the database it does what
 *               sled asks for, sync_file_range, as if the durable flush were not there; of another
 *               file it does nothing.
 * SHIM_FORGETS  a folder: the disk fails and forgets, and this is where it keeps what it has.
 */
#include "shim.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>

#define RULES 2

struct rule {
  _Atomic uint32_t kinds; /* of which calls: bit 1 << kind */
  int32_t error;          /* they fail with this errno; 0: they hang until the rules change */
  _Atomic int64_t skip;   /* after so many more went well */
  _Atomic int64_t times;  /* so many of them */
  char suffix[64];        /* of the path; empty for any */
};

struct control {
  _Atomic uint64_t now;   /* counts the beginnings and ends of calls */
  _Atomic uint64_t hits;  /* calls that a rule met */
  _Atomic uint64_t epoch; /* counts the changes of rules */
  struct rule rules[RULES];
  _Atomic int64_t ahead;  /* milliseconds that the wall clock is ahead */
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
  forget_begin(getenv("SHIM_FORGETS"));
  root_length = strlen(folder);
  if (root_length >= sizeof root) abort();
  memcpy(root, folder, root_length + 1);
  control = map;
}

/* Paths: whether they are ours. */

static int inside(const char *path) {
  return control && strncmp(path, root, root_length) == 0 &&
         (path[root_length] == '/' || path[root_length] == 0);
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, 4095);
  if (length <= 0) return 0;
  path[length] = 0;
  return 1;
}

/* The path of a descriptor, if it is one of ours. */
static int known(int fd, char *path) { return control && path_of(fd, path) && inside(path); }

/* The same of a path, from a folder on. */
static const char *ours_at(int folder, const char *path, char *whole) {
  char here[2048];
  if (!control) return NULL;
  if (path[0] == '/') {
    snprintf(whole, 4096, "%s", path);
  } else if (folder == AT_FDCWD) {
    if (!getcwd(here, sizeof here)) return NULL;
    snprintf(whole, 4096, "%s/%.2000s", here, path);
  } else {
    char from[4096];
    if (!path_of(folder, from)) return NULL;
    snprintf(whole, 4096, "%.2000s/%.2000s", from, path);
  }
  return inside(whole) ? whole : NULL;
}

static int ends_in(const char *path, const char *end, size_t part) {
  size_t length = strlen(path);
  return length >= part && strncmp(path + length - part, end, part) == 0;
}

/* Rules. */

static struct rule *rule_for(enum kind kind, const char *path) {
  for (int i = 0; i < RULES; i++) {
    struct rule *rule = &control->rules[i];
    if (!(atomic_load(&rule->kinds) & (1u << kind))) continue;
    if (!ends_in(path, rule->suffix, strnlen(rule->suffix, sizeof rule->suffix))) continue;
    if (atomic_fetch_sub(&rule->skip, 1) > 0) continue;
    if (atomic_fetch_sub(&rule->times, 1) > 0) return rule;
  }
  return NULL;
}

/* Whether this call is to fail; then errno is set. One that is to hang hangs here. */
static int fails(enum kind kind, const char *path) {
  uint64_t epoch = atomic_load(&control->epoch);
  struct rule *rule = rule_for(kind, path);
  if (!rule) return 0;
  int error = rule->error;
  atomic_fetch_add(&control->hits, 1);
  if (error != 0) {
    errno = error;
    return 1;
  }
  const struct timespec moment = {.tv_nsec = 2000000};
  while (atomic_load(&control->epoch) == epoch) nanosleep(&moment, NULL);
  return 0;
}

/* Whether a rule is about calls of this kind: most are about none, and then a path is not looked for. */
static int in_question(enum kind kind) {
  if (!control) return 0;
  for (int i = 0; i < RULES; i++)
    if (atomic_load(&control->rules[i].kinds) & (1u << kind)) return 1;
  return 0;
}

static int fails_on(enum kind kind, int fd) {
  char path[4096];
  return in_question(kind) && known(fd, path) && fails(kind, path);
}

static int fails_at(enum kind kind, const char *path) {
  char whole[4096];
  return in_question(kind) && ours_at(AT_FDCWD, path, whole) && fails(kind, whole);
}

/* Records. */

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

static void note_names(enum kind kind, uint64_t start, const char *one, const char *two) {
  note((struct record){.start = start, .end = tick(), .kind = kind}, one, two, NULL);
}

static uint64_t inode(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

/* Writing. */

/* A negative offset stands for "where the file is". */
static ssize_t written(int fd, const void *data, size_t length, off64_t offset) {
  off64_t at = offset;
  struct stat status;
  if (at < 0) at = lseek(fd, 0, SEEK_CUR);
  if (fcntl(fd, F_GETFL) & O_APPEND && fstat(fd, &status) == 0) at = status.st_size;
  forget_lock();
  uint64_t start = tick(), node = inode(fd);
  forget_before_write(fd, node, at, length);
  ssize_t done = offset < 0 ? REAL(write)(fd, data, length) : REAL(pwrite64)(fd, data, length, offset);
  /* Others may have written meanwhile to the end of it. */
  if (offset < 0 && done > 0) at = lseek(fd, 0, SEEK_CUR) - done;
  if (done > 0)
    note((struct record){.start = start, .end = tick(), .inode = node, .offset = at,
                         .length = done, .kind = WRITE}, NULL, NULL, data);
  forget_unlock();
  return done;
}

ssize_t write(int fd, const void *data, size_t length) {
  char path[4096];
  if (!known(fd, path)) return REAL(write)(fd, data, length);
  return fails(WRITE, path) ? -1 : written(fd, data, length, -1);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  char path[4096];
  if (!known(fd, path)) return REAL(pwrite64)(fd, data, length, offset);
  return fails(WRITE, path) ? -1 : written(fd, data, length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  return pwrite64(fd, data, length, offset);
}

/* One buffer after the other: as good for a caller, and each a write of its own here. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
  char path[4096];
  if (!known(fd, path)) return REAL(writev)(fd, parts, count);
  for (int i = 0; i < count; i++)
    if (parts[i].iov_len > 0) return write(fd, parts[i].iov_base, parts[i].iov_len);
  return 0;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
  char path[4096];
  if (!known(fd, path)) return REAL(pwritev64)(fd, parts, count, offset);
  for (int i = 0; i < count; i++)
    if (parts[i].iov_len > 0) return pwrite64(fd, parts[i].iov_base, parts[i].iov_len, offset);
  return 0;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  return pwritev64(fd, parts, count, offset);
}

/* Copies within the kernel are refused, so that callers read and write. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) {
  char path[4096];
  if (!known(out, path)) return REAL(copy_file_range)(in, from, out, to, length, flags);
  errno = EXDEV;
  return -1;
}

ssize_t sendfile64(int out, int in, off64_t *from, size_t length) {
  char path[4096];
  if (!known(out, path)) return REAL(sendfile64)(out, in, from, length);
  errno = EINVAL;
  return -1;
}

ssize_t sendfile(int out, int in, off_t *from, size_t length) { return sendfile64(out, in, from, length); }

ssize_t splice(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) {
  char path[4096];
  if (!known(out, path)) return REAL(splice)(in, from, out, to, length, flags);
  errno = EINVAL;
  return -1;
}

/* Lengths. */

int ftruncate64(int fd, off64_t length) {
  char path[4096];
  if (!known(fd, path)) return REAL(ftruncate64)(fd, length);
  if (fails(TRUNCATE, path)) return -1;
  forget_lock();
  uint64_t start = tick(), node = inode(fd);
  int result = REAL(ftruncate64)(fd, length);
  if (result == 0) {
    forget_cut(node, length);
    note((struct record){.start = start, .end = tick(), .inode = node, .offset = length,
                         .kind = TRUNCATE}, NULL, NULL, NULL);
  }
  forget_unlock();
  return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  char path[4096];
  struct stat status;
  if (!known(fd, path)) return REAL(fallocate64)(fd, mode, offset, length);
  if (fails(ALLOCATE, path)) return -1;
  /* Whoever wants more than room must do without. */
  if (mode & ~FALLOC_FL_KEEP_SIZE) return errno = EOPNOTSUPP, -1;
  uint64_t start = tick();
  off64_t before = fstat(fd, &status) == 0 ? status.st_size : 0;
  int result = REAL(fallocate64)(fd, mode, offset, length);
  if (result == 0 && fstat(fd, &status) == 0 && status.st_size > before)
    note((struct record){.start = start, .end = tick(), .inode = status.st_ino,
                         .offset = status.st_size, .kind = TRUNCATE}, NULL, NULL, NULL);
  return result;
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

/* These tell an error by its number. */
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
  return fallocate64(fd, 0, offset, length) == 0 ? 0 : errno;
}

int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

/* Syncing. */

/* A directory's sync is told by its path. */
static void note_sync(int fd, uint64_t start, enum kind kind, const char *path) {
  struct stat status;
  int folder = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
  note((struct record){.start = start, .end = tick(), .inode = status.st_ino, .kind = kind},
       folder ? path : NULL, NULL, NULL);
}

static int refused(int fd, const char *path) {
  int error = errno;
  if (!forgets()) return -1;
  forget_lock();
  forget_synced(inode(fd), 0);
  note_sync(fd, tick(), FAILED_SYNC, path);
  forget_unlock();
  errno = error;
  return -1;
}

/* What it is for is decided when it begins. */
static uint64_t begun(int fd) {
  forget_lock();
  forget_synced(inode(fd), 1);
  uint64_t start = tick();
  forget_unlock();
  return start;
}

int fsync(int fd) {
  char path[4096];
  if (!known(fd, path)) return REAL(fsync)(fd);
  if (fails(SYNC, path)) return refused(fd, path);
  uint64_t start = begun(fd);
  int result = REAL(fsync)(fd);
  if (result == 0) note_sync(fd, start, SYNC, path);
  return result;
}

int fdatasync(int fd) {
  char path[4096];
  if (!known(fd, path)) return REAL(fdatasync)(fd);
  if (fails(SYNC, path)) return refused(fd, path);
  int is_weak = weak && ends_in(path, weak, strlen(weak));
  uint64_t start = begun(fd);
  int result = 0;
  if (!is_weak) result = REAL(fdatasync)(fd);
  else if (ends_in(path, "/sled/db", 8)) result = REAL(sync_file_range)(fd, 0, 0, 7);
  if (result == 0) note_sync(fd, start, is_weak ? RANGE : SYNC, path);
  return result;
}

/* A sync of the whole file system counts for no file. */
int syncfs(int fd) { return fails_on(SYNC, fd) ? -1 : REAL(syncfs)(fd); }

int posix_fadvise64(int fd, off64_t offset, off64_t length, int advice) {
  char path[4096];
  if (!known(fd, path)) return REAL(posix_fadvise64)(fd, offset, length, advice);
  if (fails(ADVISE, path)) return errno;
  int result = REAL(posix_fadvise64)(fd, offset, length, advice);
  if (result != 0 || advice != POSIX_FADV_DONTNEED) return result;
  struct stat status;
  if (fstat(fd, &status) == 0 && (length == 0 || offset + length >= status.st_size))
    length = INT64_MAX - offset; /* to its end */
  forget_lock();
  uint64_t start = tick();
  forget_dropped(fd, status.st_ino, offset, length);
  note((struct record){.start = start, .end = tick(), .inode = status.st_ino, .offset = offset,
                       .length = length, .kind = ADVISE}, NULL, NULL, NULL);
  forget_unlock();
  return 0;
}

int posix_fadvise(int fd, off_t offset, off_t length, int advice) {
  return posix_fadvise64(fd, offset, length, advice);
}

/* Reading. */

ssize_t read(int fd, void *data, size_t length) {
  return fails_on(READ, fd) ? -1 : REAL(read)(fd, data, length);
}

ssize_t pread64(int fd, void *data, size_t length, off64_t offset) {
  return fails_on(READ, fd) ? -1 : REAL(pread64)(fd, data, length, offset);
}

ssize_t pread(int fd, void *data, size_t length, off_t offset) { return pread64(fd, data, length, offset); }

ssize_t readv(int fd, const struct iovec *parts, int count) {
  return fails_on(READ, fd) ? -1 : REAL(readv)(fd, parts, count);
}

ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t offset) {
  return fails_on(READ, fd) ? -1 : REAL(preadv64)(fd, parts, count, offset);
}

ssize_t preadv(int fd, const struct iovec *parts, int count, off_t offset) {
  return preadv64(fd, parts, count, offset);
}

int statvfs64(const char *path, struct statvfs64 *room) {
  return fails_at(STATVFS, path) ? -1 : REAL(statvfs64)(path, room);
}

int statvfs(const char *path, struct statvfs *room) {
  return fails_at(STATVFS, path) ? -1 : REAL(statvfs)(path, room);
}

int fstatvfs64(int fd, struct statvfs64 *room) {
  return fails_on(STATVFS, fd) ? -1 : REAL(fstatvfs64)(fd, room);
}

int fstatvfs(int fd, struct statvfs *room) {
  return fails_on(STATVFS, fd) ? -1 : REAL(fstatvfs)(fd, room);
}

/* Names. */

static int opened(int folder, const char *path, int flags, mode_t mode) {
  char whole[4096];
  const char *ours = ours_at(folder, path, whole);
  if (!ours) return syscall(SYS_openat, folder, path, flags, mode);
  int makes = flags & O_CREAT && syscall(SYS_faccessat, AT_FDCWD, ours, F_OK) != 0;
  if (makes ? fails(CREATE, ours) : (flags & O_ACCMODE) != O_RDONLY && fails(OPEN, ours)) return -1;
  forget_lock();
  uint64_t start = tick();
  int fd = syscall(SYS_openat, folder, path, flags, mode);
  int error = errno;
  if (fd >= 0 && makes) {
    forget_new(inode(fd));
    note((struct record){.start = start, .end = tick(), .inode = inode(fd), .kind = CREATE}, ours,
         NULL, NULL);
  } else if (fd >= 0 && flags & O_TRUNC) {
    forget_cut(inode(fd), 0);
    note((struct record){.start = start, .end = tick(), .inode = inode(fd), .kind = TRUNCATE}, NULL,
         NULL, NULL);
  }
  forget_unlock();
  errno = error;
  return fd;
}

#define OPENS(declaration, folder, flags_)                                   \
  int declaration {                                                          \
    mode_t mode = 0;                                                         \
    if ((flags_) & (O_CREAT | O_TMPFILE)) {                                  \
      va_list more;                                                          \
      va_start(more, flags);                                                 \
      mode = va_arg(more, mode_t);                                           \
      va_end(more);                                                          \
    }                                                                        \
    return opened(folder, path, (flags_) | O_LARGEFILE, mode);               \
  }

OPENS(open(const char *path, int flags, ...), AT_FDCWD, flags)
OPENS(open64(const char *path, int flags, ...), AT_FDCWD, flags)
OPENS(openat(int folder, const char *path, int flags, ...), folder, flags)
OPENS(openat64(int folder, const char *path, int flags, ...), folder, flags)

int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
  char one[4096], two[4096];
  int ours = ours_at(from_folder, from, one) && ours_at(to_folder, to, two);
  if (ours && fails(RENAME, one)) return -1;
  uint64_t start = ours ? tick() : 0;
  int result = syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
  if (ours && result == 0) note_names(RENAME, start, one, two);
  return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
  return renameat2(from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char *path, int flags) {
  char whole[4096];
  int ours = ours_at(folder, path, whole) != NULL;
  if (ours && fails(UNLINK, whole)) return -1;
  uint64_t start = ours ? tick() : 0;
  int result = syscall(SYS_unlinkat, folder, path, flags);
  if (ours && result == 0) note_names(UNLINK, start, whole, NULL);
  return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode) {
  char whole[4096];
  int ours = ours_at(folder, path, whole) != NULL;
  if (ours && fails(MKDIR, whole)) return -1;
  uint64_t start = ours ? tick() : 0;
  int result = syscall(SYS_mkdirat, folder, path, mode);
  if (ours && result == 0) note_names(MKDIR, start, whole, NULL);
  return result;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int truncate64(const char *path, off64_t length) {
  char whole[4096];
  if (!ours_at(AT_FDCWD, path, whole)) return REAL(truncate64)(path, length);
  int fd = opened(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  int result = fd < 0 ? -1 : ftruncate64(fd, length);
  if (fd >= 0) close(fd);
  return result;
}

int truncate(const char *path, off_t length) { return truncate64(path, length); }

/* The wall clock. */

int clock_gettime(clockid_t clock, struct timespec *time) {
  static __typeof__(&clock_gettime) real;
  if (!real) real = REAL(clock_gettime);
  int result = real(clock, time);
  if (result != 0 || !control || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
  int64_t ahead = control->ahead;
  time->tv_sec += ahead / 1000;
  time->tv_nsec += ahead % 1000 * 1000000;
  if (time->tv_nsec < 0) time->tv_nsec += 1000000000, time->tv_sec--;
  if (time->tv_nsec >= 1000000000) time->tv_nsec -= 1000000000, time->tv_sec++;
  return 0;
}
