/*
 * Advice, locks and the like stay with their mappings (the snapshot sees them in smaps), and the contents too. With
 * "thp-disabled" huge pages are switched off for the whole process, with "locked-future" everything mapped later is locked.
 */
#include "workload.h"

enum { SIZE = 4 << 20 };

static const struct {
	const char *name;
	int flags, advice, lock;
} areas[] = {
	{"plain", 0, 0, 0},
	{"DONTFORK", 0, MADV_DONTFORK, 0},
	{"DONTDUMP", 0, MADV_DONTDUMP, 0},
	{"HUGEPAGE", 0, MADV_HUGEPAGE, 0},
	{"NOHUGEPAGE", 0, MADV_NOHUGEPAGE, 0},
	{"MERGEABLE", 0, MADV_MERGEABLE, 0},
	{"SEQUENTIAL", 0, MADV_SEQUENTIAL, 0},
	{"RANDOM", 0, MADV_RANDOM, 0},
	{"NORESERVE", MAP_NORESERVE, 0, 0},
	{"MAP_LOCKED", MAP_LOCKED, 0, 0},
	{"mlock", 0, 0, 1},
};
enum { ALL = sizeof areas / sizeof *areas };

/* Whether a mapping made now is locked. */
static bool locks_now(void)
{
	char *at = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	unsigned char resident = 0;

	/* Locking brings the page in, although nobody touched it. */
	must(mincore(at, 4096, &resident));
	must(munmap(at, 4096));
	return resident & 1;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	char *at[ALL];
	bool future;

	if (!strcmp(what, "thp-disabled"))
		must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	for (int i = 0; i < ALL; i++) {
		at[i] = must(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | areas[i].flags, -1, 0));
		if (at[i] == MAP_FAILED)
			fail("%s: %s", areas[i].name, strerror(errno));
		if (areas[i].advice && madvise(at[i], SIZE, areas[i].advice) < 0)
			note("no %s here: %s", areas[i].name, strerror(errno));
		if (areas[i].lock)
			must(mlock(at[i], SIZE));
		fill_pattern(at[i] + 4096 * (i + 1), 4096, (uint64_t)i);
	}
	if (!strcmp(what, "locked-future"))
		must(mlockall(MCL_FUTURE));
	future = locks_now();
	ready();
	wait_for_go();
	check_state();
	check(locks_now() == future, "new mappings are %slocked", future ? "not " : "");
	for (int i = 0; i < ALL; i++) {
		check_pattern(at[i] + 4096 * (i + 1), 4096, (uint64_t)i, areas[i].name);
		check(at[i][0] == 0 && at[i][SIZE - 1] == 0, "%s: memory that was never written is not zero", areas[i].name);
	}
	pass();
}
