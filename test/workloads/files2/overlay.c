/*
 * Files of a lower layer of an overlay, as after an upgrade in a container: deleted, which counts as linked still; replaced while mapped. And one
 * whose other name is left, which is linked indeed.
 */
#include <sys/mount.h>

#include "workload.h"

static int put(const char *path, const char *text)
{
	int fd = must(open(path, O_RDWR | O_CREAT | O_EXCL, 0600));

	must(write(fd, text, strlen(text)));
	return fd;
}

static void holds(int fd, const char *text)
{
	char got[32] = "";

	must(pread(fd, got, sizeof got - 1, 0));
	check(!strcmp(got, text), "fd %d holds \"%s\", not \"%s\"", fd, got, text);
}

int main(void)
{
	int gone, library, linked;
	struct stat stat;
	char *mapped;
	static char prefixes[3][32];

	for (int i = 0; i < 4; i++)
		must(mkdir((const char *[]){"lower", "upper", "spare", "merged"}[i], 0755));
	must(close(put("lower/gone", "deleted")));
	must(close(put("lower/library", "old version")));
	must(mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=spare"));
	gone = must(open("merged/gone", O_RDONLY));
	must(unlink("merged/gone"));
	library = must(open("merged/library", O_RDONLY));
	mapped = must(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, library, 0));
	must(close(put("merged/library.new", "new version")));
	must(rename("merged/library.new", "merged/library"));
	linked = put("merged/one", "linked");
	must(link("merged/one", "merged/two"));
	must(unlink("merged/one"));
	must(fstat(gone, &stat));
	if (stat.st_nlink != 1)
		note("a deleted file of a lower layer has %d links", (int)stat.st_nlink);

	/* What is carried gets another inode. */
	snprintf(prefixes[0], sizeof prefixes[0], "map %lx-", (unsigned long)mapped);
	snprintf(prefixes[1], sizeof prefixes[1], "fd %d link", gone);
	snprintf(prefixes[2], sizeof prefixes[2], "fd %d link", library);
	for (int i = 0; i < 3; i++)
		snapshot_ignores(prefixes[i]);
	ready();
	wait_for_go();
	check_state();
	holds(gone, "deleted");
	holds(library, "old version");
	check(!strcmp(mapped, "old version"), "the mapping has another version");
	must(lseek(linked, 0, SEEK_END));
	must(write(linked, "!", 1));
	must(close(linked));
	linked = must(open("merged/two", O_RDONLY));
	holds(linked, "linked!");
	must(close(gone));
	must(close(library));
	must(close(linked));
	must(munmap(mapped, 4096));
	must(umount("merged"));
	pass();
}
