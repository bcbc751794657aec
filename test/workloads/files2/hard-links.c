/* Names that are gone while other hard links exist; the other links are still the same file afterwards. */
#include "deleted.h"

int main(void)
{
	struct stat one, other;
	int fd, reader, inside, linked_again;
	char *mapped;

	fd = new_file("name", O_RDWR, "linked");
	reader = must(open("name", O_RDONLY));
	must(link("name", "other"));
	must(unlink("name"));
	must(mkdir("directory", 0700));
	inside = new_file("directory/name", O_RDWR, "inside");
	must(link("directory/name", "outside"));
	must(unlink("directory/name"));
	must(rmdir("directory"));
	/* Named again as before: nothing is missing. */
	linked_again = new_file("again", O_RDWR, "again");
	must(link("again", "spare"));
	must(unlink("again"));
	must(link("spare", "again"));
	mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	snapshot_ignores("fd 6 link");
	ready();
	wait_for_go();
	check_state();
	must(fstat(fd, &one));
	must(stat("other", &other));
	check(one.st_ino == other.st_ino && one.st_nlink == 1, "the file is not the one linked elsewhere");
	must(fstat(inside, &one));
	must(stat("outside", &other));
	check(one.st_ino == other.st_ino && one.st_nlink == 1, "the file from the removed directory is another one");
	memcpy(mapped, "LI", 2);
	check_content(reader, "LInked");
	check_content(linked_again, "again");
	must(unlink("other"));
	must(unlink("outside"));
	must(unlink("spare"));
	must(unlink("again"));
	pass();
}
