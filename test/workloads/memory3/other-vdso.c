/*
 * A program that knows the vdso of another kernel: the functions of the file that it is given, at the address of its own vdso.
 * It calls them as soon as that vdso lies there, which is after a restore from images that were changed.
 */
#include <elf.h>
#include <sys/auxv.h>
#include <sys/time.h>

#include "workload.h"

enum { ROOM = 64 << 10, HEAD = 64 };

static char file[ROOM];
static char *base;
static unsigned long calls;

static size_t symbol(const char *wanted)
{
	const Elf64_Ehdr *header = (const void *)file;
	const Elf64_Phdr *program = (const void *)(file + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	const Elf64_Sym *symbols = NULL;
	const char *strings = NULL;

	for (int i = 0; i < header->e_phnum; i++)
		if (program[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(file + program[i].p_offset);
	for (; dynamic && dynamic->d_tag; dynamic++) {
		if (dynamic->d_tag == DT_SYMTAB)
			symbols = (const void *)(file + dynamic->d_un.d_ptr);
		if (dynamic->d_tag == DT_STRTAB)
			strings = file + dynamic->d_un.d_ptr;
	}
	for (const Elf64_Sym *s = symbols + 1; s && strings && (const char *)s < strings; s++)
		if (!strcmp(strings + s->st_name, wanted))
			return s->st_value;
	fail("the file has no %s", wanted);
}

static void call_all(void)
{
	int (*clock_gettime_)(clockid_t, struct timespec *) = (void *)(base + symbol("__vdso_clock_gettime"));
	int (*gettimeofday_)(struct timeval *, void *) = (void *)(base + symbol("__vdso_gettimeofday"));
	time_t (*time_)(time_t *) = (void *)(base + symbol("__vdso_time"));
	int (*getcpu_)(unsigned *, unsigned *, void *) = (void *)(base + symbol("__vdso_getcpu"));
	struct timespec by_vdso, by_call;
	struct timeval day;
	unsigned cpu = 99999;
	int64_t apart;
	time_t now;

	check(clock_gettime_(CLOCK_MONOTONIC, &by_vdso) == 0, "clock_gettime fails");
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &by_call);
	apart = (by_call.tv_sec - by_vdso.tv_sec) * 1000000000 + by_call.tv_nsec - by_vdso.tv_nsec;
	check(apart >= 0 && apart < 1000000000, "the clock is %ld ns away", (long)apart);
	check(gettimeofday_(&day, NULL) == 0, "gettimeofday fails");
	now = time_(NULL);
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &by_call);
	check(by_call.tv_sec - day.tv_sec <= 1 && by_call.tv_sec - now <= 1, "the time of day is %ld, %ld", (long)day.tv_sec, (long)now);
	check(getcpu_(&cpu, NULL, NULL) == 0 && cpu < 4096, "getcpu gives %u", cpu);
	calls++;
}

int main(int argc, char **argv)
{
	int fd = must(open(argv[argc - 1], O_RDONLY));

	must(read(fd, file, ROOM));
	close(fd);
	base = (char *)getauxval(AT_SYSINFO_EHDR);
	if (!base || !memcmp(base, file, HEAD))
		fail("the file is no other vdso");
	/* What lies there will not be a vdso any more, and it is shorter. */
	snapshot_ignores("map ");
	snapshot_ignores("mapflags ");
	ready();
	while (!go_given()) {
		if (!memcmp(base, file, HEAD))
			call_all();
		sleep_ms(1);
	}
	check(calls > 10 || !memcmp(base, file, HEAD) == 0, "the functions were called %lu times", calls);
	pass();
}
