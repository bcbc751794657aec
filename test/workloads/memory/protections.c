/*
 * Mappings of every protection keep what is in them, readable or not, and the same accesses fault as before. The second
 * argument says what is mapped: private, shared (both anonymous), private-file, shared-file.
 */
#include <setjmp.h>

#include "workload.h"

enum { PAGE = 4096, PAGES = 5, ALL = 8 };

static sigjmp_buf after_fault;

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

static int signal_of_write(volatile char *at)
{
	int sig = sigsetjmp(after_fault, 1);

	if (!sig)
		*at = *at;
	return sig;
}

/* The first page begins with code: mov $42, %eax; ret. */
static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};

static int run(const char *at)
{
	int sig = sigsetjmp(after_fault, 1);

	return sig ? -sig : ((int (*)(void))(uintptr_t)at)();
}

static char *map_one(const char *what, int prot, int flags, int fd)
{
	char *at = must(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE | (prot & PROT_EXEC), flags, fd, 0));

	must((at == MAP_FAILED) ? -1 : 0);
	/* Page 0 and 3 are written, 1 only read, 2 and 4 never touched. */
	fill_pattern(at, PAGE, (uint64_t)prot);
	memcpy(at, code, sizeof code);
	fill_pattern(at + 3 * PAGE, PAGE, (uint64_t)prot + 100);
	(void)*(volatile char *)(at + PAGE);
	must(mprotect(at, PAGES * PAGE, prot));
	(void)what;
	return at;
}

struct access {
	int read, write, run;
};

static struct access access_of(char *at)
{
	return (struct access){signal_of_read(at + 8), signal_of_write(at + 8), run(at)};
}

static void check_contents(char *at, int prot, bool of_file)
{
	char what[64];

	must(mprotect(at, PAGES * PAGE, PROT_READ | PROT_WRITE));
	check(!memcmp(at, code, sizeof code), "the code of the mapping with protection %d", prot);
	snprintf(what, sizeof what, "page 3 with protection %d", prot);
	check_pattern(at + 3 * PAGE, PAGE, (uint64_t)prot + 100, what);
	fill_pattern(at, 8, (uint64_t)prot);
	snprintf(what, sizeof what, "page 0 with protection %d", prot);
	check_pattern(at, PAGE, (uint64_t)prot, what);
	for (int page = 1; page < PAGES; page++)
		for (int i = 0; page != 3 && i < PAGE; i++)
			if (!check(at[page * PAGE + i] == (of_file ? 'f' : 0), "page %d with protection %d was never written", page, prot))
				break;
}

static int file_of(int prot)
{
	static char bytes[PAGES * PAGE];
	char name[32];
	int fd;

	snprintf(name, sizeof name, "file-%d", prot);
	fd = must(open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	memset(bytes, 'f', sizeof bytes);
	must(write(fd, bytes, sizeof bytes));
	return fd;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "private";
	bool of_file = strstr(what, "file") != NULL;
	int flags = (strncmp(what, "shared", 6) ? MAP_PRIVATE : MAP_SHARED) | (of_file ? 0 : MAP_ANONYMOUS);
	struct access before[ALL];
	char *at[ALL];

	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	for (int prot = 0; prot < ALL; prot++) {
		int fd = of_file ? file_of(prot) : -1;
		at[prot] = map_one(what, prot, flags, fd);
		if (of_file)
			close(fd);
		before[prot] = access_of(at[prot]);
	}
	ready();
	wait_for_go();
	check_state();
	for (int prot = 0; prot < ALL; prot++) {
		struct access now = access_of(at[prot]);
		check(!memcmp(&now, &before[prot], sizeof now), "protection %d: read, write, run gave %d %d %d, now %d %d %d", prot,
			before[prot].read, before[prot].write, before[prot].run, now.read, now.write, now.run);
		check_contents(at[prot], prot, of_file);
	}
	pass();
}
