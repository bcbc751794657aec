/*
 * Advice, locks and the like stay with their mappings (the snapshot sees them in smaps), and the contents too. With
 * "thp-disabled" huge pages are switched off for the whole process, with "locked-future" everything mapped later is locked, with
 * "locked-all" what is mapped as well, with "locked-on-fault" when it is touched.
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
	{"mlock2 beside it", 0, MADV_DONTDUMP, 2},
	{"WIPEONFORK", 0, 0, 5},
	{"DONTDUMP and HUGEPAGE", 0, MADV_DONTDUMP, 3},
	{"COLLAPSE", 0, 25, 0},
	{"unmerged", 0, MADV_MERGEABLE, 4},
};
enum { ALL = sizeof areas / sizeof *areas };

/* Which locks a mapping made now has: lo (locked), lf (when touched). */
static unsigned flags_now(void)
{
	char *at = must(mmap((void *)0x510000000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), line[256];
	FILE *maps = fopen("/proc/self/smaps", "re");
	bool is_there = false;
	unsigned flags = 0;

	while (maps && fgets(line, sizeof line, maps)) {
		if (strchr(line, '-') && !strncmp(line, "510000000000-", 13))
			is_there = true;
		else if (is_there && !strncmp(line, "VmFlags:", 8)) {
			flags = (strstr(line, " lo") ? 1 : 0) | (strstr(line, " lf") ? 2 : 0);
			break;
		}
	}
	if (maps)
		fclose(maps);
	must(munmap(at, 4096));
	return flags;
}

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
	/* The peer does not know all. */
	bool future, whole = !strcmp(what, "locked-on-fault");
	unsigned flags;

	if (!strcmp(what, "thp-disabled"))
		must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	for (int i = 0; i < ALL; i++) {
		at[i] = must(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | areas[i].flags, -1, 0));
		if (at[i] == MAP_FAILED)
			fail("%s: %s", areas[i].name, strerror(errno));
		if (areas[i].advice && madvise(at[i], SIZE, areas[i].advice) < 0)
			note("no %s here: %s", areas[i].name, strerror(errno));
		if (areas[i].lock == 1)
			must(mlock(at[i], SIZE));
		else if (areas[i].lock == 2)
			must(mlock2(at[i], SIZE, whole ? MLOCK_ONFAULT : 0));
		else if (areas[i].lock == 3 && madvise(at[i], SIZE, MADV_HUGEPAGE) < 0)
			note("no huge pages here");
		else if (areas[i].lock == 4 && madvise(at[i], SIZE, MADV_UNMERGEABLE) < 0)
			note("no merging here");
		else if (areas[i].lock == 5 && whole)
			must(madvise(at[i], SIZE, MADV_WIPEONFORK));
		fill_pattern(at[i] + 4096 * (i + 1), 4096, (uint64_t)i);
	}
	if (!strcmp(what, "locked-future"))
		must(mlockall(MCL_FUTURE));
	if (!strcmp(what, "locked-all"))
		must(mlockall(MCL_CURRENT | MCL_FUTURE));
	if (!strcmp(what, "locked-on-fault"))
		must(mlockall(MCL_FUTURE | MCL_ONFAULT));
	future = locks_now();
	flags = flags_now();
	ready();
	wait_for_go();
	check_state();
	check(locks_now() == future, "new mappings are %slocked", future ? "not " : "");
	check(flags_now() == flags, "locks of new mappings were %u, are %u", flags, flags_now());
	for (int i = 0; i < ALL; i++) {
		check_pattern(at[i] + 4096 * (i + 1), 4096, (uint64_t)i, areas[i].name);
		check(at[i][0] == 0 && at[i][SIZE - 1] == 0, "%s: memory that was never written is not zero", areas[i].name);
	}
	pass();
}
