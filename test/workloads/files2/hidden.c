/*
 * A file, a mapping or a working directory that another mount hides, by which name there is a file as well; or one on a file
 * system that is unmounted already. "long", "long-cwd": its name is longer than a path may be,
 * and another file is locked. "queue", "queue-deleted": a POSIX message queue, whose file system is mounted nowhere.
 */
#include "workload.h"

#include <sys/file.h>
#include <sys/mount.h>

static void put(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
	must(write(fd, text, strlen(text)));
	must(close(fd));
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[2] : "file";
	int fd = -1;
	char *mapped = NULL, text[5] = "";

	if (!strncmp(how, "queue", 5)) {
		must((int)syscall(SYS_mq_open, "floe-hidden", O_RDWR | O_CREAT, 0600, NULL));
		if (!strcmp(how, "queue-deleted"))
			must(syscall(SYS_mq_unlink, "floe-hidden"));
		ready();
		wait_for_go();
		check_state();
		syscall(SYS_mq_unlink, "floe-hidden");
		pass();
	}
	if (!strncmp(how, "long", 4)) {
		static char name[250];
		int here = must(open(".", O_PATH));

		memset(name, 'n', sizeof name - 1);
		for (int i = 0; i < 20; i++) {
			must(mkdir(name, 0700));
			must(chdir(name));
		}
		if (!strcmp(how, "long"))
			fd = must(open("file", O_RDWR | O_CREAT, 0600));
		if (strcmp(how, "long-cwd"))
			must(fchdir(here));
		/* Not the only problem. */
		must(flock(must(openat(here, "locked", O_RDWR | O_CREAT, 0600)), LOCK_EX));
		ready();
		wait_for_go();
		check_state();
		/* By a program that goes there step by step as well. */
		must(fchdir(here));
		must(system("rm -r nnn* locked"));
		pass();
	}
	must(mkdir("place", 0700));
	if (!strcmp(how, "unmounted"))
		must(mount("below", "place", "tmpfs", 0, NULL));
	put("place/file", "this");
	if (!strcmp(how, "cwd")) {
		must(chdir("place"));
	} else {
		fd = must(open("place/file", O_RDONLY));
		if (!strcmp(how, "map")) {
			mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
			must(mapped == MAP_FAILED ? -1 : 0);
			must(close(fd));
		}
	}
	if (!strcmp(how, "unmounted")) {
		must(umount2("place", MNT_DETACH));
	} else {
		must(mount("above", !strcmp(how, "cwd") ? "../place" : "place", "tmpfs", 0, NULL));
		put(!strcmp(how, "cwd") ? "../place/file" : "place/file", "that");
	}
	ready();
	wait_for_go();
	check_state();
	if (!strcmp(how, "cwd"))
		fd = must(open("file", O_RDONLY));
	if (mapped)
		memcpy(text, mapped, 4);
	else
		must(pread(fd, text, 4, 0));
	check(!strcmp(text, "this"), "the file is another one: %s", text);
	if (strcmp(how, "unmounted"))
		must(umount(!strcmp(how, "cwd") ? "../place" : "place"));
	pass();
}
