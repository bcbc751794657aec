/* A file that never had a name (O_TMPFILE) is given one after the thaw. */
#include "deleted.h"

int main(void)
{
	int fd = must(open(".", O_TMPFILE | O_RDWR, 0640)), reader;
	char path[64];

	must(write(fd, "unnamed", 7));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	reader = must(open(path, O_RDONLY));
	snapshot_ignores("fd 3 link");
	snapshot_ignores("fd 4 link");
	ready();
	wait_for_go();
	check_state();
	check_content(fd, "unnamed");
	check_content(reader, "unnamed");
	must(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	must(unlink("named"));
	pass();
}
