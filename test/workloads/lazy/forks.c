/*
 * Forks the moment it goes on, while most of its memory (MiB by argument) is missing. Parent and child look at all of it; who finds a page
 * without contents makes the file GO.zeros. The child says by GO.forked that it runs.
 */
#include "workload.h"

enum { PAGE = 4096 };

static void leave_note(const char *go, const char *what)
{
	char path[4096];

	snprintf(path, sizeof path, "%s.%s", go, what);
	close(must(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
}

static void look(const volatile uint64_t *words, size_t pages, const char *go)
{
	for (size_t i = 0; i < pages; i++)
		if (words[i * PAGE / 8] != i * 3 + 1) {
			leave_note(go, "zeros");
			_exit(1);
		}
}

int main(int argc, char **argv)
{
	size_t pages = (size_t)(argc > 2 ? atoi(argv[2]) : 64) << 8;
	uint64_t *words = must(mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	int status;
	pid_t child;

	for (size_t i = 0; i < pages; i++)
		words[i * PAGE / 8] = i * 3 + 1;
	ready();
	wait_for_go();
	child = must(fork());
	if (child == 0) {
		leave_note(argv[1], "forked");
		look(words, pages, argv[1]);
		_exit(0);
	}
	look(words, pages, argv[1]);
	must(waitpid(child, &status, 0));
	check(status == 0, "the child ended with status %d", status);
	pass();
}
