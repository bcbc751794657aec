/*
 * Pages that parent and children share copy-on-write are one physical page before and after (page frame numbers from
 * /proc/self/pagemap, for which one must be root), those that one of them wrote, dropped or unmapped are not. The second
 * argument says what is mapped: anonymous, file (private).
 */
#include "workload.h"

/* Children change what is theirs: the page they write, drop or unmap. */
enum { PAGE = 4096, PAGES = 24, CHILDREN = 3, WRITTEN = 4, DROPPED = 8, UNMAPPED = 16 };

struct report {
	uint64_t frames[CHILDREN + 1][PAGES];
	int asked, answered[CHILDREN];
};

static struct report *report;
static char *area;

static void look(int who)
{
	uint64_t entries[PAGES];
	int fd = must(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));

	must(pread(fd, entries, sizeof entries, (off_t)((uintptr_t)area / PAGE * 8)));
	close(fd);
	for (int i = 0; i < PAGES; i++) {
		bool present = entries[i] >> 63, swapped = entries[i] >> 62 & 1;
		report->frames[who][i] = present && !swapped ? entries[i] & ((1ull << 55) - 1) : 0;
	}
}

static void child(int who)
{
	/* The first child also has a page that nobody ever had in memory. */
	fill_pattern(area + (WRITTEN + who) * PAGE, PAGE, 50u + (unsigned)who);
	must(madvise(area + (DROPPED + who) * PAGE, PAGE, MADV_DONTNEED));
	must(munmap(area + (UNMAPPED + who) * PAGE, PAGE));
	keep_state();
	for (int turn = 1; turn <= 2; turn++) {
		while (__atomic_load_n(&report->asked, __ATOMIC_SEQ_CST) < turn)
			sleep_ms(2);
		look(who);
		__atomic_store_n(&report->answered[who], turn, __ATOMIC_SEQ_CST);
	}
	check_state();
	for (int i = 0; i < UNMAPPED; i++)
		if (i == DROPPED + who)
			check(area[i * PAGE] == (area[(PAGES - 1) * PAGE] == 'f' ? 'f' : 0), "a dropped page has contents");
		else
			check_pattern(area + i * PAGE, PAGE, i == WRITTEN + who ? 50u + (unsigned)who : (unsigned)i, "a page in a child");
	child_done();
}

static void ask(int turn)
{
	__atomic_store_n(&report->asked, turn, __ATOMIC_SEQ_CST);
	for (int i = 0; i < CHILDREN; i++)
		while (__atomic_load_n(&report->answered[i], __ATOMIC_SEQ_CST) < turn)
			sleep_ms(2);
	look(CHILDREN);
}

/* The sharing of a page as a number: who has the same frame as whom, and who has none. */
static unsigned pattern_of(const uint64_t frames[CHILDREN + 1][PAGES], int page)
{
	unsigned pattern = 0;

	for (int a = 0; a <= CHILDREN; a++)
		for (int b = 0; b <= a; b++)
			pattern = pattern << 1 | (frames[a][page] && frames[a][page] == frames[b][page]);
	return pattern;
}

int main(int argc, char **argv)
{
	static uint64_t before[CHILDREN + 1][PAGES];
	bool of_file = argc > 2 && !strcmp(argv[2], "file");
	int fd = -1;
	pid_t kids[CHILDREN];

	if (of_file) {
		static char bytes[PAGES * PAGE];
		memset(bytes, 'f', sizeof bytes);
		fd = must(open("mapped", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
		must(write(fd, bytes, sizeof bytes));
	}
	report = shared_memory(sizeof *report);
	area = must(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | (of_file ? 0 : MAP_ANONYMOUS), fd, 0));
	must(madvise(area, PAGES * PAGE, MADV_NOHUGEPAGE));
	for (int i = 0; i < PAGES - 2; i++)
		fill_pattern(area + i * PAGE, PAGE, (unsigned)i);
	for (int i = 0; i < CHILDREN; i++)
		if (!(kids[i] = must(fork())))
			child(i);
	ask(1);
	memcpy(before, report->frames, sizeof before);
	check(pattern_of(before, 0) == 0x3ff, "the pages are not shared to begin with: %#x", pattern_of(before, 0));
	ready();
	wait_for_go();
	check_state();
	ask(2);
	for (int i = 0; i < PAGES; i++)
		check(pattern_of(before, i) == pattern_of(report->frames, i), "page %d: sharing was %#x, is %#x", i, pattern_of(before, i),
			pattern_of(report->frames, i));
	for (int i = 0; i < PAGES - 2; i++)
		check_pattern(area + i * PAGE, PAGE, (unsigned)i, "a page in the parent");
	for (int i = 0; i < CHILDREN; i++)
		child_passed(kids[i]);
	pass();
}
