/* A deleted file with holes: the holes are holes again. */
#include "deleted.h"

#define MIB (1 << 20)

static void ranges(int fd, char *text)
{
	off_t at = 0, start, end;

	while ((start = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = must(lseek(fd, start, SEEK_HOLE));
		text += sprintf(text, "%ld-%ld ", (long)start, (long)end);
		at = end;
	}
	must(lseek(fd, 77, SEEK_SET));
}

int main(void)
{
	static char block[4096], now[4096], before[512], after[512];
	int fd = must(open("sparse", O_RDWR | O_CREAT | O_EXCL, 0600));
	const off_t places[] = {0, 5 * MIB, 900L * MIB};

	for (unsigned i = 0; i < 3; i++) {
		fill_pattern(block, sizeof block, i);
		must(pwrite(fd, block, sizeof block, places[i]));
	}
	must(ftruncate(fd, 3000L * MIB + 5));
	must(unlink("sparse"));
	must(fsync(fd));
	ranges(fd, before);
	look_at_times = false;
	keep_deleted(fd);
	ready();
	wait_for_go();
	check_deleted();
	ranges(fd, after);
	check(!strcmp(before, after), "data is at %s, was at %s", after, before);
	for (unsigned i = 0; i < 3; i++) {
		must(pread(fd, now, sizeof now, places[i]));
		check_pattern(now, sizeof now, i, "a piece of data");
	}
	pass();
}
