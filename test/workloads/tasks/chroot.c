/* A child with another root directory and a working directory below it, and a file opened outside of it before. */
#include "workload.h"

/* The child is in its jail; the parent has had its look at the living child. */
static volatile struct {
	int inside, seen;
} *steps;

static void child(int go_directory, int outside)
{
	struct stat before, now;
	char cwd[256];

	must(mkdir("jail/in", 0755));
	must(close(must(open("jail/in/marker", O_CREAT | O_WRONLY | O_CLOEXEC, 0644))));
	must(stat("jail", &before));
	must(chroot("jail"));
	must(chdir("/in"));
	look_for_go_in(go_directory, "go");
	note("in jail");
	steps->inside = 1;
	wait_for_go();
	must(stat("/", &now));
	check(before.st_ino == now.st_ino && before.st_dev == now.st_dev, "the root directory is another one");
	check(getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/in"), "the working directory is %s", cwd);
	check(access("marker", F_OK) == 0 && access("/in/marker", F_OK) == 0, "the marker is not there");
	check(access("/proc", F_OK) < 0, "the outer file system can be seen");
	check(lseek(outside, 0, SEEK_CUR) == 3, "the outside file is at %ld", (long)lseek(outside, 0, SEEK_CUR));
	while (!steps->seen)
		sleep_ms(2);
	must(unlink("marker"));
	must(rmdir("/in"));
	_exit(differences_seen() ? 1 : 0);
}

static void link_of(pid_t pid, const char *name, char *into, size_t room)
{
	char path[64];
	ssize_t got;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	got = readlink(path, into, room - 1);
	into[got > 0 ? got : 0] = 0;
}

int main(int argc, char **argv)
{
	char root[512], cwd[512], now[512], *slash;
	int go_directory, outside;
	pid_t kid;

	(void)argc;
	must(mkdir("jail", 0755));
	slash = strrchr(argv[1], '/');
	*slash = 0;
	go_directory = must(open(argv[1], O_RDONLY | O_DIRECTORY));
	*slash = '/';
	outside = must(open("/etc/passwd", O_RDONLY));
	must(lseek(outside, 3, SEEK_SET));
	steps = shared_memory(sizeof *steps);
	if ((kid = must(fork())) == 0)
		child(go_directory, outside);
	while (!steps->inside)
		sleep_ms(1);
	link_of(kid, "root", root, sizeof root);
	link_of(kid, "cwd", cwd, sizeof cwd);
	ready();
	wait_for_go();
	link_of(kid, "root", now, sizeof now);
	check(!strcmp(root, now), "the child's root is %s, was %s", now, root);
	link_of(kid, "cwd", now, sizeof now);
	check(!strcmp(cwd, now), "the child's cwd is %s, was %s", now, cwd);
	check_state();
	steps->seen = 1;
	child_passed(kid);
	must(rmdir("jail"));
	pass();
}
