/*
 * Stands between pkghook and the C library (LD_PRELOAD): tells how far each process is, and fails, stops or kills
 * at a named call.
 *
 * What is to happen and what has happened stands in a file that all processes map and tests/faults/shim.py reads and
 * writes.  Only calls on files below `scope` count.  Programs that pkghook starts do not inherit this: their
 * environment is built from scratch.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RULES 16
#define PLACES 250
#define PATIENCE 300000  /* a minute of 200 microseconds: then nobody watches any more */
#define SCRATCH "/.pkghook-"

enum { FAIL = 1, STOP, KILL, SHORT };
enum { START, WALK, WORK, TIDY, TELL, TOLD, IDLE, READING, WRITING, WRITTEN, RENAMING, RENAMED };

struct rule {
	int64_t after, skip, times, action, value;
	_Atomic int64_t seen, hits;
	char call[32], name[128];
};

struct place {
	_Atomic int64_t pid, phase, stopped;
};

static struct board {
	_Atomic int64_t calls, used;
	char scope[512];
	struct rule rules[RULES];
	struct place places[PLACES];
} *board;

static struct place *here;
static int worker;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		abort();
	return found;
}

static void settle(int phase)
{
	int64_t slot = atomic_fetch_add(&board->used, 1);

	if (slot >= PLACES)
		abort();
	here = &board->places[slot];
	here->phase = phase;
	here->pid = getpid();
}

__attribute__((constructor)) static void begin(void)
{
	const char *name = getenv("FAULTS_BOARD");
	int fd;

	if (!name)
		return;
	fd = REAL(open)(name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		abort();
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (board == MAP_FAILED)
		abort();
	close(fd);
	settle(START);
}

pid_t fork(void)
{
	pid_t pid = REAL(fork)();

	if (board && pid == 0) {
		worker = 1;
		settle(IDLE);
	} else if (board && pid > 0) {
		here->phase = WORK;
	}
	return pid;
}

/* ------------------------------------------------------------------ which file a call is about */

static int place_of(int fd, char *path)
{
	char name[64];
	ssize_t length;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	length = readlink(name, path, PATH_MAX - 1);
	path[length > 0 ? length : 0] = 0;
	return length > 0;
}

static void join(int fd, const char *name, char *path)
{
	int pid, used = 0;

	path[0] = 0;
	if (sscanf(name, "/proc/%d/fd/%d%n", &pid, &fd, &used) == 2) {
		name += used;
	} else if (name[0] == '/' || fd == AT_FDCWD) {
		snprintf(path, PATH_MAX, "%s", name);
		return;
	}
	if (place_of(fd, path))
		snprintf(path + strlen(path), PATH_MAX - strlen(path), "%s%s", name[0] == '/' ? "" : "/", name);
}

/* The fault is at a file below `scope`; what only passes through (of the interpreter, of libraries) is not. */
static int in_scope(const char *path)
{
	size_t length = strlen(board->scope);

	return length && !strncmp(path, board->scope, length) && path[length] == '/';
}

/* ------------------------------------------------------------------ what is to happen there */

static void stop(int number)
{
	here->stopped = number + 1;
	for (int i = 0; here->stopped && i < PATIENCE; i++)
		usleep(200);
}

/* The rule that fails or shortens the call, or NULL; those that stop or kill are done with here. */
static struct rule *apply(const char *call, const char *path, int after)
{
	struct rule *found = NULL;

	for (int i = 0; i < RULES; i++) {
		struct rule *rule = &board->rules[i];
		int64_t number;

		if (!rule->action || rule->after != after || strcmp(rule->call, call) || !strstr(path, rule->name))
			continue;
		number = atomic_fetch_add(&rule->seen, 1) - rule->skip;
		if (number < 0 || (rule->times >= 0 && number >= rule->times))
			continue;
		atomic_fetch_add(&rule->hits, 1);
		if (rule->action == STOP)
			stop(i);
		else if (rule->action == KILL)
			kill(getpid(), SIGKILL);
		else
			found = rule;
	}
	return found;
}

static void set(int phase)
{
	here->phase = phase;
}

static struct rule *enter(const char *call, const char *path)
{
	atomic_fetch_add(&board->calls, 1);
	return apply(call, path, 0);
}

#define BEFORE(call, path, failed)                                             \
	struct rule *rule_ = NULL;                                             \
	int scoped_ = in_scope(path);                                          \
	if (scoped_ && (rule_ = enter(call, path)) && rule_->action == FAIL) { \
		errno = (int)rule_->value;                                     \
		return failed;                                                 \
	}

#define AFTER(call, path, failed)                                              \
	if (scoped_) {                                                         \
		int errno_ = errno;                                            \
		struct rule *late_ = apply(call, path, 1);                     \
		errno = errno_;                                                \
		if (late_ && late_->action == FAIL) {                          \
			errno = (int)late_->value;                             \
			return failed;                                         \
		}                                                              \
	}

/* ------------------------------------------------------------------ the calls */

static int opening(int dirfd, const char *name, int flags, mode_t mode)
{
	char path[PATH_MAX];
	int fd;

	if (!board)
		return REAL(openat)(dirfd, name, flags, mode);
	join(dirfd, name, path);
	BEFORE(flags & O_CREAT ? "create" : "open", path, -1)
	if (scoped_ && flags & O_CREAT)
		set(worker ? WRITING : TELL);
	fd = REAL(openat)(dirfd, name, flags, mode);
	if (scoped_ && !(flags & (O_CREAT | O_DIRECTORY)) && fd >= 0 && !strstr(path, SCRATCH))
		set(worker ? READING : WALK);
	else if (scoped_ && !worker && here->phase == START)
		set(WALK);
	AFTER(flags & O_CREAT ? "create" : "open", path, (fd >= 0 ? close(fd) : 0, -1))
	return fd;
}

#define MODE(flags, mode)                          \
	mode_t mode = 0;                           \
	if ((flags) & (O_CREAT | O_TMPFILE)) {     \
		va_list rest_;                     \
		va_start(rest_, flags);            \
		mode = va_arg(rest_, mode_t);      \
		va_end(rest_);                     \
	}

int openat64(int dirfd, const char *name, int flags, ...)
{
	MODE(flags, mode)
	return opening(dirfd, name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
	MODE(flags, mode)
	return opening(AT_FDCWD, name, flags, mode);
}

#define SHORTER(size) (rule_ && rule_->action == SHORT && (size_t)rule_->value < (size) ? (size_t)rule_->value : (size))

ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
	char path[PATH_MAX];
	ssize_t done;

	if (!board || !place_of(fd, path))
		return REAL(pread64)(fd, data, size, offset);
	BEFORE("pread", path, -1)
	if (scoped_ && worker && strstr(path, SCRATCH))
		set(WRITTEN);  /* it is whole now: it is read back */
	done = REAL(pread64)(fd, data, SHORTER(size), offset);
	AFTER("pread", path, -1)
	return done;
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
	char path[PATH_MAX];
	struct iovec first;
	ssize_t done;

	if (!board || !place_of(fd, path))
		return REAL(writev)(fd, pieces, count);
	BEFORE("write", path, -1)
	if (rule_ && count) {
		first = pieces[0];
		first.iov_len = SHORTER(first.iov_len);
		done = REAL(writev)(fd, &first, 1);
	} else {
		done = REAL(writev)(fd, pieces, count);
	}
	AFTER("write", path, -1)
	return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
	char path[PATH_MAX];
	ssize_t done;

	if (!board || !place_of(fd, path))
		return REAL(write)(fd, data, size);
	BEFORE("write", path, -1)
	done = REAL(write)(fd, data, SHORTER(size));
	AFTER("write", path, -1)
	return done;
}

int fsync(int fd)
{
	char path[PATH_MAX];
	int done;

	if (!board || !place_of(fd, path))
		return REAL(fsync)(fd);
	BEFORE("fsync", path, -1)
	done = REAL(fsync)(fd);
	AFTER("fsync", path, -1)
	return done;
}

int renameat(int olddir, const char *old, int newdir, const char *new)
{
	char path[PATH_MAX];
	int done, within;

	if (!board)
		return REAL(renameat)(olddir, old, newdir, new);
	join(newdir, new, path);
	within = !!strstr(path, SCRATCH);  /* what a tool has written becomes the scratch file */
	BEFORE("rename", path, -1)
	if (scoped_ && worker && !within)
		set(RENAMING);
	done = REAL(renameat)(olddir, old, newdir, new);
	if (scoped_)
		set(!worker ? TOLD : within ? WRITTEN : RENAMED);
	AFTER("rename", path, -1)
	return done;
}

int rename(const char *old, const char *new)
{
	return renameat(AT_FDCWD, old, AT_FDCWD, new);
}

int linkat(int olddir, const char *old, int newdir, const char *new, int flags)
{
	char path[PATH_MAX];
	int done;

	if (!board)
		return REAL(linkat)(olddir, old, newdir, new, flags);
	join(newdir, new, path);
	BEFORE("link", path, -1)
	done = REAL(linkat)(olddir, old, newdir, new, flags);
	AFTER("link", path, -1)
	return done;
}

int unlinkat(int dirfd, const char *name, int flags)
{
	char path[PATH_MAX];
	int done;

	if (!board)
		return REAL(unlinkat)(dirfd, name, flags);
	join(dirfd, name, path);
	BEFORE("unlink", path, -1)
	if (scoped_ && !worker)
		set(TIDY);
	done = REAL(unlinkat)(dirfd, name, flags);
	AFTER("unlink", path, -1)
	return done;
}

int unlink(const char *name)
{
	return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
	return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

int mkdirat(int dirfd, const char *name, mode_t mode)
{
	char path[PATH_MAX];
	int done;

	if (!board)
		return REAL(mkdirat)(dirfd, name, mode);
	join(dirfd, name, path);
	BEFORE("mkdir", path, -1)
	done = REAL(mkdirat)(dirfd, name, mode);
	AFTER("mkdir", path, -1)
	return done;
}

int fstatat64(int dirfd, const char *name, struct stat64 *status, int flags)
{
	char path[PATH_MAX];
	int done;

	if (!board)
		return REAL(fstatat64)(dirfd, name, status, flags);
	join(dirfd, name, path);
	BEFORE("look", path, -1)
	done = REAL(fstatat64)(dirfd, name, status, flags);
	AFTER("look", path, -1)
	return done;
}

int fchmod(int fd, mode_t mode)
{
	char path[PATH_MAX];
	int done;

	if (!board || !place_of(fd, path))
		return REAL(fchmod)(fd, mode);
	BEFORE("chmod", path, -1)
	done = REAL(fchmod)(fd, mode);
	AFTER("chmod", path, -1)
	return done;
}

int flock(int fd, int how)
{
	char path[PATH_MAX];
	int done;

	if (!board || !place_of(fd, path))
		return REAL(flock)(fd, how);
	BEFORE("lock", path, -1)
	done = REAL(flock)(fd, how);
	AFTER("lock", path, -1)
	return done;
}
