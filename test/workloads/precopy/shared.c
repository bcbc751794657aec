/*
 * Shared memory of three kinds that several processes write to while it is copied. Each page is written by one process only, which
 * knows its number; 0 is a page without contents. With "wild" also in ways that no tracking of their mappings sees: by children that
 * have ended again, by a second mapping that is gone again, by write(2), and pages are taken out.
 */
#include "workload.h"
#include <sys/ipc.h>
#include <sys/shm.h>

enum { PAGE = 4096, PAGES = 1024, WRITERS = 3, KINDS = 3 };

static char *areas[KINDS];
static uint32_t number[KINDS][PAGES];
static int file;
static uint32_t me;
static uint64_t state;
static uint32_t last_number;

static uint32_t random_below(uint32_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 11) % limit;
}

static uint64_t word(uint32_t value, int i)
{
	return value == 0 ? 0 : ((uint64_t)value << 20) ^ ((uint64_t)i * 0x9e3779b97f4a7c15ull);
}

static void fill_page(char *page, uint32_t value)
{
	for (int i = 0; i < PAGE / 8; i++)
		((volatile uint64_t *)page)[i] = word(value, i);
}

static bool page_is(const char *page, uint32_t value)
{
	for (int i = 0; i < PAGE / 8; i++)
		if (((const uint64_t *)page)[i] != word(value, i))
			return false;
	return true;
}

static int own_page(void)
{
	return (int)(random_below(PAGES / WRITERS) * WRITERS + me);
}

/* One more number for a page; whoever writes it there is the caller's business. */
static char *renew(int kind, int *page)
{
	*page = own_page();
	number[kind][*page] = ++last_number;
	return areas[kind] + *page * PAGE;
}

static void write_one(int kind)
{
	int page;
	char *at = renew(kind, &page);

	fill_page(at, last_number);
}

static void by_a_child(int kind)
{
	int page, status;
	char *at = renew(kind, &page);
	pid_t child = must(fork());

	if (child == 0) {
		fill_page(at, last_number);
		_exit(0);
	}
	must(waitpid(child, &status, 0));
	check(status == 0, "a child ended with status %d", status);
}

static void by_a_second_mapping(int kind)
{
	int page;
	char *at = renew(kind, &page);
	char *second = mremap(at, 0, PAGE, MREMAP_MAYMOVE);

	if (second == MAP_FAILED)
		fail("mremap: %s", strerror(errno));
	fill_page(second, last_number);
	must(munmap(second, PAGE));
}

static void take_out(int kind)
{
	int page = own_page();

	number[kind][page] = 0;
	must(madvise(areas[kind] + page * PAGE, PAGE, MADV_REMOVE));
	if (random_below(2))
		check(page_is(areas[kind] + page * PAGE, 0), "a page that was taken out is there");
}

static void by_descriptor(void)
{
	static char page[PAGE];
	int which;

	renew(2, &which);
	fill_page(page, last_number);
	check(pwrite(file, page, PAGE, (off_t)which * PAGE) == PAGE, "pwrite: %s", strerror(errno));
}

static unsigned wrong_pages(void)
{
	unsigned wrong = 0;

	for (int kind = 0; kind < KINDS; kind++)
		for (int page = (int)me; page < PAGES; page += WRITERS)
			if (!page_is(areas[kind] + page * PAGE, number[kind][page]) && wrong++ < 3)
				note("kind %d page %d is not number %u", kind, page, number[kind][page]);
	return wrong;
}

/* "calm": mappings stay as they are. */
static bool calm;

static void change_something(bool wild)
{
	int kind = (int)random_below(KINDS);
	int from = (int)random_below(PAGES);
	volatile char look;

	switch (random_below(wild ? 400 : 64)) {
	case 0:
	case 1: /* of shared memory this takes nothing away */
		must(madvise(areas[kind] + from * PAGE, (size_t)(PAGES - from) * PAGE, MADV_DONTNEED));
		break;
	case 2: look = areas[kind][from * PAGE]; (void)look; break;
	case 3:
		if (calm)
			break;
		must(mprotect(areas[kind], (size_t)PAGES / 2 * PAGE, PROT_READ));
		must(mprotect(areas[kind], (size_t)PAGES / 2 * PAGE, PROT_READ | PROT_WRITE));
		break;
	case 100: by_a_child(kind); break;
	case 101: by_a_second_mapping(kind); break;
	case 102: take_out(kind); break;
	case 103: by_descriptor(); break;
	default: write_one(kind);
	}
}

static void work(bool wild)
{
	while (!go_given())
		for (int i = 0; i < 200; i++)
			change_something(wild);
	check(wrong_pages() == 0, "pages are not what they were");
}

int main(int argc, char **argv)
{
	bool wild = argc > 2 && strcmp(argv[2], "wild") == 0;
	calm = argc > 2 && strcmp(argv[2], "calm") == 0;
	const size_t bytes = (size_t)PAGES * PAGE;
	int *begun = shared_memory(4096);
	pid_t children[WRITERS - 1];
	int segment = must(shmget(IPC_PRIVATE, bytes, 0600));

	areas[0] = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	areas[1] = must(shmat(segment, NULL, 0));
	file = must(memfd_create("written", 0));
	must(ftruncate(file, (off_t)bytes));
	areas[2] = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
	must(shmctl(segment, IPC_RMID, NULL));
	for (me = 1; me < WRITERS; me++) {
		pid_t child = must(fork());

		if (child == 0) {
			state = 88172645463325252ull * (me + 1);
			__atomic_add_fetch(begun, 1, __ATOMIC_SEQ_CST);
			work(wild);
			while (!__atomic_load_n(begun + 1, __ATOMIC_SEQ_CST))
				sleep_ms(2);
			_exit(differences_seen() ? 1 : 0);
		}
		children[me - 1] = child;
	}
	me = 0;
	state = 88172645463325252ull;
	while (__atomic_load_n(begun, __ATOMIC_SEQ_CST) < WRITERS - 1)
		sleep_ms(2);
	snapshot_ignores("map");
	snapshot_ignores("status");
	ready();
	work(wild);
	check_state();
	__atomic_store_n(begun + 1, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < WRITERS - 1; i++)
		child_passed(children[i]);
	pass();
}
