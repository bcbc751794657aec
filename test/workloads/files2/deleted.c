/* Regular files without a name any more: contents, attributes, several names and descriptors, a name used again. */
#include "deleted.h"

int main(int argc, char **argv)
{
	struct timespec times[2] = {{.tv_sec = 1000000000, .tv_nsec = 123456789}, {.tv_sec = 1234567890, .tv_nsec = 987654321}};
	int plain, reader, copy, first, second, again, replaced, inside, empty, writer;
	char read_back[8];

	plain = new_file("plain", O_RDWR, "content of plain");
	reader = must(open("plain", O_RDONLY | O_NOATIME));
	copy = must(dup(reader));
	must(lseek(reader, 3, SEEK_SET));
	must(unlink("plain"));

	/* One file of two names, both gone. */
	first = new_file("first", O_RDWR | O_APPEND, "of two names");
	must(link("first", "second"));
	second = must(open("second", O_RDONLY));
	must(unlink("first"));
	must(unlink("second"));

	look_at_times = false;
	/* The name leads to another file now, which must not be touched. */
	replaced = new_file("again", O_RDWR, "old");
	must(unlink("again"));
	again = new_file(argc > 2 && !strcmp(argv[2], "name-in-use") ? "again" : "other", O_RDWR, "new");

	/* The directory is gone as well. */
	must(mkdir("gone", 0700));
	must(mkdir("gone/too", 0700));
	inside = new_file("gone/too/inside", O_RDWR, "inside");
	must(unlink("gone/too/inside"));
	must(rmdir("gone/too"));
	must(rmdir("gone"));

	empty = new_file("empty", O_RDWR, "");
	must(fchmod(empty, 04751));
	must(unlink("empty"));
	writer = new_file("name with blanks (deleted)", O_WRONLY, "odd name");
	must(fchown(writer, 12, 34));
	must(unlink("name with blanks (deleted)"));
	must(futimens(writer, times));

	keep_deleted(plain);
	keep_deleted(reader);
	keep_deleted(copy);
	keep_deleted(first);
	keep_deleted(second);
	keep_deleted(replaced);
	keep_deleted(inside);
	keep_deleted(empty);
	keep_deleted(writer);
	ready();
	wait_for_go();
	check_deleted();
	check_state();
	check_content(plain, "content of plain");
	check_content(first, "of two names");
	check_content(replaced, "old");
	check_content(again, "new");
	check_content(inside, "inside");
	check_content(empty, "");
	check_content(writer, "odd name");
	must(lseek(copy, 8, SEEK_SET));
	check(read(reader, read_back, 2) == 2 && !memcmp(read_back, "of", 2), "a duplicate has a position of its own");
	must(write(first, "!", 1));
	check_content(second, "of two names!");
	must(unlink(argc > 2 ? "again" : "other"));
	pass();
}
