/*
 * A disk that fails a sync and forgets. Linux marks the pages of a failed sync clean: they are in
 * its cache and on no disk, later syncs succeed without them, and reads see them until the cache
 * lets go of them. This models it over a file system that forgets nothing.
 *
 * The file itself is what the cache shows. Beside it, in a folder, two files for each inode outlive
 * the process, as the cache does: INODE.state has a byte for each page, and INODE.disk has, for each
 * page that is not clean, what the disk holds.
 */
#include "shim.h"
#include <fcntl.h>
#include <pthread.h>

#define PAGE 4096u

/* CLEAN: the disk has it. DIRTY: the next sync writes it. LOST: no sync will. */
enum state { CLEAN, DIRTY, LOST };

static const char *folder;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* No call is cut short between what it did and its record when the process exits. */
__attribute__((destructor)) static void end(void) {
  if (folder) pthread_mutex_lock(&lock);
}

void forget_begin(const char *path) { folder = path; }
int forgets(void) { return folder != NULL; }
void forget_lock(void) { if (folder) pthread_mutex_lock(&lock); }
void forget_unlock(void) { if (folder) pthread_mutex_unlock(&lock); }

static void path_of(char *path, uint64_t inode, const char *what) {
  snprintf(path, 4096, "%s/%llu.%s", folder, (unsigned long long)inode, what);
}

static int aside(uint64_t inode, const char *what) {
  char path[4096];
  path_of(path, inode, what);
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) abort();
  return fd;
}

/* The file behind a descriptor, whatever that may do. */
static int again(int fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int both = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  if (both < 0) abort();
  return both;
}

static ssize_t get(int fd, void *bytes, size_t length, uint64_t offset) {
  return syscall(SYS_pread64, fd, bytes, length, offset);
}

static void put(int fd, const void *bytes, size_t length, uint64_t offset) {
  if (syscall(SYS_pwrite64, fd, bytes, length, offset) != (ssize_t)length) abort();
}

static uint64_t size_of(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) abort();
  return status.st_size;
}

/* A copy of the states of pages from `first`, at most `count`; those that are not known are clean. */
static char *states(int fd, uint64_t first, uint64_t count) {
  char *state = calloc(count + 1, 1);
  if (!state || get(fd, state, count, first) < 0) abort();
  return state;
}

void forget_new(uint64_t inode) {
  if (!folder) return;
  char path[4096];
  path_of(path, inode, "state");
  syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  path_of(path, inode, "disk");
  syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

void forget_before_write(int fd, uint64_t inode, uint64_t offset, uint64_t length) {
  if (!folder || length == 0) return;
  uint64_t first = offset / PAGE, count = (offset + length - 1) / PAGE - first + 1;
  int state_fd = aside(inode, "state"), disk = aside(inode, "disk"), file = again(fd);
  char *state = states(state_fd, first, count);
  for (uint64_t page = 0; page < count; page++) {
    if (state[page] == CLEAN) {
      char bytes[PAGE] = {0};
      /* Where the file has nothing yet, the disk will have zeros. */
      if (get(file, bytes, PAGE, (first + page) * PAGE) < 0) abort();
      put(disk, bytes, PAGE, (first + page) * PAGE);
    }
    state[page] = DIRTY;
  }
  put(state_fd, state, count, first);
  free(state);
  close(state_fd), close(disk), close(file);
}

void forget_synced(uint64_t inode, int good) {
  if (!folder) return;
  int state_fd = aside(inode, "state");
  uint64_t count = size_of(state_fd);
  char *state = states(state_fd, 0, count);
  for (uint64_t page = 0; page < count; page++)
    if (state[page] == DIRTY) state[page] = good ? CLEAN : LOST;
  put(state_fd, state, count, 0);
  free(state);
  close(state_fd);
}

/* The cache lets go of clean pages: of those that are lost, the file shows what the disk has. */
void forget_dropped(int fd, uint64_t inode, uint64_t offset, uint64_t length) {
  if (!folder) return;
  int state_fd = aside(inode, "state"), disk = aside(inode, "disk"), file = again(fd);
  uint64_t count = size_of(state_fd), size = size_of(file);
  /* Only whole pages are let go of. */
  uint64_t first = (offset + PAGE - 1) / PAGE;
  uint64_t end = length == 0 ? UINT64_MAX : (offset + length) / PAGE;
  if (length != 0 && offset + length >= size) end = UINT64_MAX;
  char *state = states(state_fd, 0, count);
  for (uint64_t page = first; page < count && page < end; page++) {
    if (state[page] != LOST) continue;
    char bytes[PAGE] = {0};
    get(disk, bytes, PAGE, page * PAGE);
    if (page * PAGE < size)
      put(file, bytes, size - page * PAGE < PAGE ? size - page * PAGE : PAGE, page * PAGE);
    state[page] = CLEAN;
  }
  put(state_fd, state, count, 0);
  free(state);
  close(state_fd), close(disk), close(file);
}

/* What is behind the new end is nowhere. */
void forget_cut(uint64_t inode, uint64_t length) {
  if (!folder) return;
  int state_fd = aside(inode, "state");
  uint64_t pages = (length + PAGE - 1) / PAGE;
  if (size_of(state_fd) > pages && syscall(SYS_ftruncate, state_fd, pages) != 0) abort();
  close(state_fd);
}
