/*
 * Memory that changes in every way while it is being copied: written, dropped, moved, cut, lengthened, replaced, protected,
 * made of huge pages, forked. Each page is known by a number; 0 is what a fresh page shows. As fast as it can: where a processor is
 * its own, some 300 000 pages a second.
 */
#include "workload.h"

enum { PAGE = 4096, SLOTS = 48, MAX_PAGES = 128, MIN_PAGES = 80, HUGE_BYTES = 4 << 20 };

struct slot {
	char *at;
	int pages;
	int file; /* private mapping of a file: fresh pages show the file's */
	bool closed; /* PROT_READ for now */
	uint32_t number[MAX_PAGES];
};

static struct slot slots[SLOTS];
static uint32_t file_number = 7;
static uint64_t state = 88172645463325252ull;
static uint32_t last_number = 1000;
static int64_t begun_ms;

static uint32_t random_below(uint32_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 11) % limit;
}

static uint64_t word(uint32_t number, int i)
{
	return number == 0 ? 0 : ((uint64_t)number << 20) ^ ((uint64_t)i * 0x9e3779b97f4a7c15ull);
}

static void fill_page(char *page, uint32_t number)
{
	for (int i = 0; i < PAGE / 8; i++)
		((volatile uint64_t *)page)[i] = word(number, i);
}

static bool page_is(const char *page, uint32_t number)
{
	for (int i = 0; i < PAGE / 8; i++)
		if (((const uint64_t *)page)[i] != word(number, i))
			return false;
	return true;
}

static uint32_t fresh(const struct slot *slot)
{
	return slot->file >= 0 ? file_number : 0;
}

static void map_slot(struct slot *slot, char *at, int pages)
{
	int flags = MAP_PRIVATE | (slot->file >= 0 ? 0 : MAP_ANONYMOUS) | (at != NULL ? MAP_FIXED : 0);

	slot->at = mmap(at, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, flags, slot->file, 0);
	if (slot->at == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	slot->pages = pages;
	slot->closed = false;
	for (int i = 0; i < MAX_PAGES; i++)
		slot->number[i] = fresh(slot);
}

static void write_some(struct slot *slot)
{
	if (slot->closed) {
		must(mprotect(slot->at, (size_t)slot->pages * PAGE, PROT_READ | PROT_WRITE));
		slot->closed = false;
	}
	for (int i = 0; i < 48; i++) {
		int page = (int)random_below((uint32_t)slot->pages);

		slot->number[page] = ++last_number;
		fill_page(slot->at + page * PAGE, slot->number[page]);
	}
}

static void drop_some(struct slot *slot)
{
	int from = (int)random_below((uint32_t)slot->pages);
	int count = 1 + (int)random_below((uint32_t)(slot->pages - from));

	must(madvise(slot->at + from * PAGE, (size_t)count * PAGE, MADV_DONTNEED));
	for (int i = from; i < from + count; i++)
		slot->number[i] = fresh(slot);
}

static void move(struct slot *slot)
{
	size_t bytes = (size_t)slot->pages * PAGE;
	char *to = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	slot->at = mremap(slot->at, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (slot->at == MAP_FAILED)
		fail("mremap: %s", strerror(errno));
}

static void resize(struct slot *slot)
{
	int pages = MIN_PAGES + (int)random_below(MAX_PAGES - MIN_PAGES + 1);
	char *at = mremap(slot->at, (size_t)slot->pages * PAGE, (size_t)pages * PAGE, MREMAP_MAYMOVE);

	if (at == MAP_FAILED)
		fail("mremap: %s", strerror(errno));
	slot->at = at;
	for (int i = slot->pages; i < pages; i++)
		slot->number[i] = fresh(slot);
	slot->pages = pages;
}

static void replace(struct slot *slot)
{
	char *at = slot->at;

	must(munmap(at, (size_t)slot->pages * PAGE));
	map_slot(slot, at, slot->pages);
}

static unsigned wrong_pages(void)
{
	unsigned wrong = 0;

	for (int s = 0; s < SLOTS; s++)
		for (int i = 0; i < slots[s].pages; i++)
			if (!page_is(slots[s].at + i * PAGE, slots[s].number[i])) {
				if (wrong++ < 3)
					note("slot %d page %d is not number %u", s, i, slots[s].number[i]);
			}
	return wrong;
}

/* A child sees what its parent had at that moment, whatever the parent does with it afterwards. */
static void fork_some(void)
{
	pid_t child = must(fork());
	int status;

	if (child == 0) {
		write_some(&slots[0]);
		_exit(wrong_pages() == 0 ? 0 : 1);
	}
	write_some(&slots[1]);
	must(waitpid(child, &status, 0));
	check(status == 0, "a child saw other pages: status %d", status);
}

static void change_something(void)
{
	struct slot *slot = &slots[random_below(SLOTS)];

	switch (random_below(24)) {
	case 0: drop_some(slot); break;
	case 1: move(slot); break;
	case 2: if (slot->file < 0) resize(slot); break;
	case 3: replace(slot); break;
	case 4:
		must(mprotect(slot->at, (size_t)slot->pages * PAGE, PROT_READ));
		slot->closed = true;
		break;
	case 5: must(madvise(slot->at, (size_t)slot->pages * PAGE, MADV_POPULATE_READ)); break;
	case 6: if (random_below(8) == 0) fork_some(); break;
	default: write_some(slot);
	}
}

int main(void)
{
	int fd = must(open("mapped", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	static char page[PAGE];
	char *huge;

	fill_page(page, file_number);
	for (int i = 0; i < MAX_PAGES; i++)
		must(write(fd, page, sizeof page));
	for (int s = 0; s < SLOTS; s++) {
		slots[s].file = s % 5 == 4 ? fd : -1;
		map_slot(&slots[s], NULL, MIN_PAGES + s % (MAX_PAGES - MIN_PAGES));
		for (int i = 0; i < 10; i++)
			write_some(&slots[s]);
	}
	huge = aligned_alloc(2 << 20, HUGE_BYTES);
	madvise(huge, HUGE_BYTES, MADV_HUGEPAGE);
	for (int i = 0; i < HUGE_BYTES / PAGE; i++)
		fill_page(huge + i * PAGE, (uint32_t)i + 1);
	/* Mappings come and go. */
	snapshot_ignores("map");
	snapshot_ignores("status");
	last_number = 1000000;
	ready();
	begun_ms = now_ms();
	for (uint32_t turn = 0; !go_given(); turn++) {
		for (int i = 0; i < 400; i++)
			change_something();
		int i = (int)(turn % (HUGE_BYTES / PAGE));
		fill_page(huge + i * PAGE, (uint32_t)i + 1);
	}
	note("%u pages a second", (uint32_t)((last_number - 1000000) * 1000ull / (uint64_t)(now_ms() - begun_ms + 1)));
	check(wrong_pages() == 0, "pages are not what they were");
	for (int i = 0; i < HUGE_BYTES / PAGE; i++)
		check(page_is(huge + i * PAGE, (uint32_t)i + 1), "page %d of the huge ones", i);
	pass();
}
