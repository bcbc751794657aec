/* Deleted files that are mapped: with a descriptor or without, shared by a child, written privately, with holes. */
#include "deleted.h"

#define BYTES (8 * 4096)

struct area {
	char *at;
	int fd;
};

static struct area map(const char *name, int protection, int flags, bool keeps_fd)
{
	static char content[BYTES], prefixes[8][32];
	static unsigned count;
	int fd = must(open(name, O_RDWR | O_CREAT | O_EXCL, 0644));
	struct area area = {.fd = -1};

	fill_pattern(content, BYTES, (uint64_t)name[0]);
	must(write(fd, content, BYTES));
	area.at = mmap(NULL, BYTES, protection, flags, fd, 0);
	if (area.at == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	must(unlink(name));
	if (keeps_fd)
		keep_deleted(area.fd = fd);
	else
		must(close(fd));
	/* The inode number of the mapping. */
	snprintf(prefixes[count], sizeof prefixes[0], "map %lx-", (unsigned long)area.at);
	snapshot_ignores(prefixes[count++]);
	return area;
}

int main(void)
{
	struct area shared = map("shared", PROT_READ | PROT_WRITE, MAP_SHARED, false);
	struct area with_fd = map("with-fd", PROT_READ | PROT_WRITE, MAP_SHARED, true);
	struct area private = map("private", PROT_READ | PROT_WRITE, MAP_PRIVATE, false);
	struct area code = map("only-read", PROT_READ | PROT_EXEC, MAP_PRIVATE, true);
	volatile int *kept;
	char back[4];
	pid_t child;

	look_at_times = false;

	strcpy(private.at + 4096, "private");
	strcpy(shared.at + 4096, "shared");
	kept = shared_memory(sizeof *kept);
	child = must(fork());
	if (child == 0) {
		keep_state();
		*kept = 1;
		wait_for_go();
		shared.at[2 * 4096] = 'c';
		child_done();
	}
	while (!*kept)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_deleted();
	check_state();
	child_passed(child);
	check(shared.at[2 * 4096] == 'c', "the child's write is not seen");
	check(!strcmp(private.at + 4096, "private"), "the private page is lost");
	check(!strcmp(shared.at + 4096, "shared"), "the shared page is lost");
	check_pattern(code.at, BYTES, 'o', "the mapping of code");
	check_pattern(private.at, 4096, 'p', "the private mapping");
	memcpy(with_fd.at + 5000, "map", 3);
	must(pread(with_fd.fd, back, 3, 5000));
	check(!memcmp(back, "map", 3), "descriptor and mapping are different files");
	pass();
}
