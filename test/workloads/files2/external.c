/* Tells what its open file is called outside; afterwards it may be another one, at the same place. */
#include "workload.h"

int main(void)
{
	char path[64], row[256], data[8];
	int fd = must(open("file", O_RDWR | O_CREAT | O_EXCL, 0600)), mount = -1;
	struct stat st;
	FILE *info;

	must(write(fd, "this content!", 13));
	must(lseek(fd, 6, SEEK_SET));
	must(fstat(fd, &st));
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "r");
	while (fgets(row, sizeof row, info))
		sscanf(row, "mnt_id: %d", &mount);
	fclose(info);
	note("external %d %lu", mount, (unsigned long)st.st_ino);
	snapshot_ignores("fd 3 link");
	ready();
	wait_for_go();
	check_state();
	check(read(fd, data, 7) == 7 && !memcmp(data, "ontent!", 7), "the file has %.7s", data);
	must(pwrite(fd, "seen", 4, 0));
	check(access("file", F_OK) == 0, "the file left out is gone");
	must(unlink("file"));
	pass();
}
