/* What the parts of the shim share. `shim.c` says what it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Calls, as rules and records name them. The last stands in records only. */
enum kind {
  WRITE = 1, TRUNCATE, SYNC, RANGE, CREATE, RENAME, UNLINK, MKDIR, READ, STATVFS, ALLOCATE, ADVISE,
  OPEN, FAILED_SYNC
};

/* forget.c: a disk that fails a sync and forgets what it was for. */
void forget_begin(const char *folder);
int forgets(void);
void forget_lock(void);
void forget_unlock(void);
/* The rest with the lock. */
void forget_new(uint64_t inode);
void forget_before_write(int fd, uint64_t inode, uint64_t offset, uint64_t length);
void forget_synced(uint64_t inode, int good);
void forget_dropped(int fd, uint64_t inode, uint64_t offset, uint64_t length);
void forget_cut(uint64_t inode, uint64_t length);
