/*
 * A parent and a child that share all pages of a mapping since the fork, copy-on-write: copying them must not make two of each. Page
 * frame numbers come from /proc/PID/pagemap, for which one must be root.
 */
#include "workload.h"

enum { PAGE = 4096, PAGES = 1024 };

static uint64_t entries[2][PAGES];

static void look(int who, pid_t pid, const void *area)
{
	char path[64];
	int fd;

	snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
	fd = must(open(path, O_RDONLY | O_CLOEXEC));
	must(pread(fd, entries[who], sizeof entries[who], (off_t)((uintptr_t)area / PAGE * 8)));
	close(fd);
}

static int pages_in_common(pid_t child, const void *area)
{
	const uint64_t frame = (1ull << 55) - 1;
	int common = 0;

	look(0, getpid(), area);
	look(1, child, area);
	for (int i = 0; i < PAGES; i++)
		common += entries[0][i] >> 63 && (entries[0][i] & frame) != 0 && (entries[0][i] & frame) == (entries[1][i] & frame);
	return common;
}

int main(void)
{
	uint8_t *area = must(mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	int ends[2];
	pid_t child;
	char byte;

	fill_pattern(area, (size_t)PAGES * PAGE, 3);
	must(pipe(ends));
	child = must(fork());
	if (child == 0) {
		close(ends[1]);
		while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
			;
		check_pattern(area, (size_t)PAGES * PAGE, 3, "memory of the child");
		_exit(differences_seen() ? 1 : 0);
	}
	close(ends[0]);
	check(pages_in_common(child, area) == PAGES, "the pages are not shared to begin with");
	ready();
	wait_for_go();
	check(pages_in_common(child, area) == PAGES, "only %d of %d pages are still shared", pages_in_common(child, area), PAGES);
	check_pattern(area, (size_t)PAGES * PAGE, 3, "memory of the parent");
	check_state();
	close(ends[1]);
	child_passed(child);
	pass();
}
