/*
 * Mappings of one file, private and shared, by descriptors of every access mode: written pages, unwritten ones, what lies
 * beyond the file's end, and what mprotect() allows.
 */
#include <setjmp.h>

#include "workload.h"

enum { PAGE = 4096, PAGES = 6 };

static sigjmp_buf after_fault;
static char *private_whole, *private_part, *shared_whole, *shared_part, *read_only;

static void on_fault(int sig)
{
	siglongjmp(after_fault, sig);
}

static int signal_of_read(volatile char *at)
{
	int sig = sigsetjmp(after_fault, 1);

	if (!sig)
		(void)*at;
	return sig;
}

static char *map_file(int open_flags, int prot, int flags, int first, int pages)
{
	int fd = must(open("mapped", open_flags | O_CLOEXEC));
	char *at = mmap(NULL, (size_t)pages * PAGE, prot, flags, fd, (off_t)first * PAGE);

	if (at == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	close(fd);
	return at;
}

static void check_after(int fd)
{
	static char page[PAGE];

	for (int i = 0; i < PAGES; i++) {
		char what[40];
		snprintf(what, sizeof what, "page %d of the private mapping", i);
		check_pattern(private_whole + i * PAGE, PAGE, i == 1 || i == 3 ? 100u + (unsigned)i : i == 4 ? 204u : (unsigned)i, what);
	}
	check_pattern(private_part, PAGE, 2, "page 0 of the shifted private mapping");
	check_pattern(private_part + PAGE, PAGE, 333, "page 1 of the shifted private mapping");
	check(signal_of_read(private_part + 4 * PAGE) == SIGBUS, "reading beyond the file's end does not give SIGBUS");
	check_pattern(shared_whole + 4 * PAGE, PAGE, 204, "the page written through a shared mapping");
	/* The file and its shared mappings are one memory, in both directions. */
	fill_pattern(shared_whole, PAGE, 500);
	must(pread(fd, page, PAGE, 0));
	check_pattern(page, PAGE, 500, "the file, written through the mapping");
	fill_pattern(page, PAGE, 501);
	must(pwrite(fd, page, PAGE, 5 * PAGE));
	check_pattern(shared_whole + 5 * PAGE, PAGE, 501, "the mapping, written through the file");
	check_pattern(shared_part + PAGE, PAGE, 501, "the other mapping, written through the file");
}

static void check_rights(void)
{
	check(mprotect(read_only, PAGE, PROT_READ | PROT_WRITE) < 0 && errno == EACCES, "a shared mapping of a file open for reading can be made writable");
	check(mprotect(shared_part, 2 * PAGE, PROT_READ | PROT_WRITE) == 0, "a shared mapping of a file open for writing cannot be made writable");
	check(mprotect(private_part, PAGE, PROT_READ | PROT_WRITE) == 0, "a private mapping of a file open for reading cannot be made writable");
	fill_pattern(private_part, PAGE, 600);
	check_pattern(shared_whole + 2 * PAGE, PAGE, 2, "the file after a private page was written");
}

int main(void)
{
	static char bytes[PAGES * PAGE];
	int fd = must(open("mapped", O_RDWR | O_CREAT | O_CLOEXEC, 0640));

	signal(SIGBUS, on_fault);
	for (unsigned i = 0; i < PAGES; i++)
		fill_pattern(bytes + i * PAGE, PAGE, i);
	must(write(fd, bytes, sizeof bytes));
	private_whole = map_file(O_RDONLY, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, PAGES);
	private_part = map_file(O_RDONLY, PROT_READ | PROT_WRITE, MAP_PRIVATE, 2, 6);
	shared_whole = map_file(O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED, 0, PAGES);
	shared_part = map_file(O_RDWR, PROT_READ, MAP_SHARED, 4, 2);
	read_only = map_file(O_RDONLY, PROT_READ, MAP_SHARED, 1, 1);
	fill_pattern(private_whole + PAGE, PAGE, 101);
	fill_pattern(private_whole + 3 * PAGE, PAGE, 103);
	fill_pattern(private_part + PAGE, PAGE, 333);
	fill_pattern(shared_whole + 4 * PAGE, PAGE, 204);
	must(mprotect(private_part, 6 * PAGE, PROT_READ));
	ready();
	wait_for_go();
	check_state();
	check_after(fd);
	check_rights();
	pass();
}
