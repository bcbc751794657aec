/*
 * Memory that is used in every way the moment the process goes on, while most of it is still missing: threads read and write
 * all over it; it is moved, emptied, unmapped and mapped anew, protected and opened; system calls read and write it; children
 * and grandchildren see what was there when they were forked. MiB (argument) of memory for the threads.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "workload.h"

#define PAGE 4096ul
#define THREADS 3

static size_t size;
static uint8_t *shared_by_threads;
static volatile bool has_begun;

static uint8_t *anonymous(size_t bytes)
{
	return must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static bool all_zero(const uint8_t *memory, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (memory[i] != 0)
			return false;
	return true;
}

/* Each thread looks at every third page, from its own place on, in leaps. */
static void *reader(void *number)
{
	size_t pages = size / PAGE, own = (size_t)number;

	while (!has_begun)
		;
	for (size_t i = 0; i < pages; i++) {
		size_t page = (i * 97 + own * pages / THREADS) % pages;
		uint64_t *words = (uint64_t *)(shared_by_threads + page * PAGE);

		if (page % THREADS != own)
			continue;
		check(words[0] == page * 3 + 1, "page %zu has %#lx", page, (unsigned long)words[0]);
		words[1] = page;
	}
	return NULL;
}

struct areas {
	uint8_t *moved, *emptied, *holed, *inherited, *written, *guarded;
	size_t bytes;
};

static void check_child(const struct areas *at, int depth)
{
	keep_state();
	check_pattern(at->inherited, at->bytes, 4, "what a child inherits");
	memset(at->inherited, depth, at->bytes / 2);
	if (depth < 2) {
		pid_t child = must(fork());

		if (child == 0) {
			check(at->inherited[0] == depth, "a grandchild does not see what its parent wrote");
			check_pattern(at->written, at->bytes / 2, 5, "what a grandchild inherits");
			_exit(differences_seen() == 0 ? 0 : 1);
		}
		int status;
		must(waitpid(child, &status, 0));
		check(status == 0, "the grandchild ended with %#x", status);
	}
	_exit(differences_seen() == 0 ? 0 : 1);
}

static void use(const struct areas *at, int file)
{
	size_t bytes = at->bytes;
	uint8_t *buffer = anonymous(bytes), *target = anonymous(bytes);

	/* System calls find pages that are missing. */
	must(pwrite(file, at->written, bytes / 2, 0));
	must(pread(file, at->written + bytes / 2 + 100, 3 * PAGE, 0));
	must(pread(file, buffer, bytes / 2, 0));
	check_pattern(buffer, bytes / 2, 5, "what a system call wrote of missing memory");
	check(memcmp(at->written + bytes / 2 + 100, buffer, 3 * PAGE) == 0, "a system call read into missing memory");
	must(pwrite(file, at->written, 0, 0));

	pid_t child = must(fork());
	if (child == 0)
		check_child(at, 1);
	memset(at->inherited, 0xee, bytes);

	uint8_t *moved = must(mremap(at->moved, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target));
	check(moved == target, "moved elsewhere");
	check_pattern(moved, bytes, 1, "moved memory");

	must(madvise(at->emptied + bytes / 2, bytes / 2, MADV_DONTNEED));
	check(all_zero(at->emptied + bytes / 2, bytes / 2), "what was emptied is not empty");
	check_pattern(at->emptied, bytes / 2, 2, "what was not emptied");

	must(munmap(at->holed + bytes / 4, bytes / 2));
	must(mmap(at->holed + bytes / 4, bytes / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	check(all_zero(at->holed + bytes / 4, bytes / 2), "memory that was mapped anew is not empty");
	check_pattern(at->holed, bytes / 4, 3, "memory before a hole");

	must(mprotect(at->guarded + bytes / 4, bytes / 4, PROT_NONE));
	must(mprotect(at->guarded + bytes / 2, bytes / 4, PROT_READ));
	check_pattern(at->guarded, bytes / 4, 6, "memory before what is closed");
	must(mprotect(at->guarded + bytes / 4, bytes / 4, PROT_READ | PROT_WRITE));
	check_pattern(at->guarded, bytes, 6, "memory that was closed and opened");

	int status;
	must(waitpid(child, &status, 0));
	check(status == 0, "the child ended with %#x", status);
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	struct areas at = {.bytes = 4 << 20};
	uint8_t *untouched = anonymous(1 << 20);
	char name[] = "/tmp/floe-lazy-XXXXXX";
	int file = must(mkstemp(name));

	must(unlink(name));
	must(ftruncate(file, 8 << 20));
	size = (argc > 2 ? (size_t)atoi(argv[2]) : 32) << 20;
	shared_by_threads = anonymous(size);
	for (size_t page = 0; page < size / PAGE; page++)
		*(uint64_t *)(shared_by_threads + page * PAGE) = page * 3 + 1;
	uint8_t **areas[] = {&at.moved, &at.emptied, &at.holed, &at.inherited, &at.written, &at.guarded};
	for (size_t i = 0; i < sizeof areas / sizeof *areas; i++) {
		*areas[i] = anonymous(at.bytes);
		fill_pattern(*areas[i], at.bytes, i + 1);
	}
	/* In another order than they lie in memory. */
	untouched[PAGE] = 1;
	for (size_t i = 0; i < THREADS; i++)
		must_zero(pthread_create(&threads[i], NULL, reader, (void *)i));
	snapshot_ignores("map ");
	snapshot_ignores("thread ");
	ready();
	wait_for_go();
	has_begun = true;
	use(&at, file);
	for (size_t i = 0; i < THREADS; i++)
		must_zero(pthread_join(threads[i], NULL));
	check(untouched[PAGE] == 1 && all_zero(untouched + 2 * PAGE, PAGE), "memory without contents");
	for (size_t page = 0; page < size / PAGE; page++)
		check(*(uint64_t *)(shared_by_threads + page * PAGE + 8) == page, "what was written to page %zu is lost", page);
	note("done");
	exit(differences_seen() == 0 && fputs("PASS\n", stdout) >= 0 ? 0 : 1);
}
