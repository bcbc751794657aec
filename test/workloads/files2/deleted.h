/* What workloads of deleted files have in common: facts about an open file that must not change, except its inode number. */
#ifndef FLOE_TEST_DELETED_H
#define FLOE_TEST_DELETED_H

#include "workload.h"

#define MAX_KEPT 32

struct kept_file {
	int fd;
	struct stat stat;
	char link[512];
	int flags;
	off_t position;
};

/* The peer reads files at dump as anybody does, and keeps no nanoseconds. */
static bool look_at_times = true;
static struct kept_file kept_files[MAX_KEPT];
static unsigned kept_count;

static void look_at(int fd, struct kept_file *into)
{
	char path[64];
	ssize_t got;

	into->fd = fd;
	must(fstat(fd, &into->stat));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	got = must(readlink(path, into->link, sizeof into->link - 1));
	into->link[got] = 0;
	into->flags = must(fcntl(fd, F_GETFL));
	into->position = lseek(fd, 0, SEEK_CUR);
}

/* Remembers everything about `fd` now; the snapshot leaves its identity out. */
static inline void keep_deleted(int fd)
{
	static char prefixes[MAX_KEPT][32];

	snprintf(prefixes[kept_count], sizeof prefixes[0], "fd %d link", fd);
	snapshot_ignores(prefixes[kept_count]);
	look_at(fd, &kept_files[kept_count++]);
}

static inline void check_deleted(void)
{
	for (unsigned i = 0; i < kept_count; i++) {
		struct kept_file *was = &kept_files[i], is;

		look_at(was->fd, &is);
		check(!strcmp(was->link, is.link), "fd %d is %s, was %s", was->fd, is.link, was->link);
		check(was->flags == is.flags, "fd %d has flags %o, had %o", was->fd, is.flags, was->flags);
		check(was->position == is.position, "fd %d is at %ld, was at %ld", was->fd, (long)is.position, (long)was->position);
		check(was->stat.st_mode == is.stat.st_mode, "fd %d has mode %o, had %o", was->fd, is.stat.st_mode, was->stat.st_mode);
		check(was->stat.st_uid == is.stat.st_uid && was->stat.st_gid == is.stat.st_gid, "fd %d has another owner", was->fd);
		check(was->stat.st_nlink == is.stat.st_nlink, "fd %d has %ld links, had %ld", was->fd, (long)is.stat.st_nlink, (long)was->stat.st_nlink);
		check(was->stat.st_rdev == is.stat.st_rdev, "fd %d is another device", was->fd);
		check(S_ISDIR(was->stat.st_mode) || was->stat.st_size == is.stat.st_size, "fd %d has %ld bytes, had %ld", was->fd, (long)is.stat.st_size, (long)was->stat.st_size);
		if (look_at_times) {
			check(!memcmp(&was->stat.st_mtim, &is.stat.st_mtim, sizeof is.stat.st_mtim), "fd %d has another modification time", was->fd);
			check(!memcmp(&was->stat.st_atim, &is.stat.st_atim, sizeof is.stat.st_atim), "fd %d has another access time", was->fd);
		}
		for (unsigned j = 0; j < i; j++)
			check((kept_files[j].stat.st_ino == was->stat.st_ino) == ({ struct stat other; must(fstat(kept_files[j].fd, &other)); other.st_ino == is.stat.st_ino && other.st_dev == is.stat.st_dev; }),
			      "whether fds %d and %d are the same file has changed", kept_files[j].fd, was->fd);
	}
}

static inline int new_file(const char *name, int flags, const char *content)
{
	int fd = must(open(name, flags | O_CREAT | O_EXCL, 0600));

	must(write(fd, content, strlen(content)));
	return fd;
}

/* Content of the file behind `fd`, whatever its access mode and position. */
static inline void check_content(int fd, const char *expected)
{
	char path[64], now[4096];
	int reader;
	ssize_t got;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	reader = must(open(path, O_RDONLY | O_NOATIME));
	got = must(read(reader, now, sizeof now));
	must(close(reader));
	check((size_t)got == strlen(expected) && !memcmp(now, expected, (size_t)got), "fd %d has \"%.*s\", not \"%s\"", fd, (int)got, now, expected);
}

#endif
