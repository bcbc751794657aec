/*
 * The first process of a test lane: the init of a fresh pid namespace.
 *
 * It starts commands on request, reaps every child at once (so that pids come free the moment a process dies), and
 * reports each exit. When its standard input closes, because the test runner ended in whatever way, it exits, and the
 * kernel kills everything else in the namespace.
 *
 * Requests come one a line on standard input, answers go one a line to standard output; fields are separated by tabs,
 * and a tab, newline or backslash inside a field is written \t, \n, \\.
 *
 *   spawn ID CWD STDIN OUTPUT FLAGS ARG...   -> spawned ID PID | failed ID TEXT; later: exit PID WAITSTATUS
 *   kill PID SIGNAL                          -> nothing
 *   type PID TEXT                            -> nothing; TEXT goes to the terminal of a process spawned with `pty`
 *   sweep                                    -> swept: every other process of the namespace was killed and reaped
 *   inspect ID                               -> "left ID KIND TEXT" for each leftover, then "inspected ID"
 *   mounts ID                                -> remembers the mounts as they are now, "noted ID"
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_FIELDS 4096
#define MAX_TERMINALS 16
#define LINE_BYTES (1 << 20)

struct terminal {
	pid_t pid;
	int master;
	int log;
};

static struct terminal terminals[MAX_TERMINALS];
static char line[LINE_BYTES];
static size_t line_used;
static char known_mounts[1 << 18];

static void say_field(const char *text)
{
	for (; *text; text++) {
		if (*text == '\t')
			fputs("\\t", stdout);
		else if (*text == '\n')
			fputs("\\n", stdout);
		else if (*text == '\\')
			fputs("\\\\", stdout);
		else
			putchar(*text);
	}
}

static void say(const char *const *fields)
{
	for (size_t i = 0; fields[i]; i++) {
		if (i)
			putchar('\t');
		say_field(fields[i]);
	}
	putchar('\n');
	fflush(stdout);
}
#define SAY(...) say((const char *const[]){__VA_ARGS__, NULL})

static const char *number(long value)
{
	static char text[8][24];
	static unsigned next;
	char *out = text[next++ % 8];
	snprintf(out, sizeof text[0], "%ld", value);
	return out;
}

static void die(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- children ---------------------------------------------------------------------------------------------------- */

static void default_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig <= 64; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become(const char *cwd, const char *input, const char *output, const char *flags, int slave, char **argv)
{
	int in, out;

	default_signals();
	if (strstr(flags, "session") || slave >= 0)
		setsid();
	if (slave >= 0) {
		ioctl(slave, TIOCSCTTY, 0);
		in = out = slave;
	} else {
		in = open(*input ? input : "/dev/null", O_RDONLY);
		out = open(output, O_WRONLY | O_CREAT | O_APPEND, 0644);
	}
	if (in < 0 || out < 0 || chdir(cwd) < 0)
		_exit(126);
	/* Move both out of the way of 0..2 before they are put there. */
	in = fcntl(in, F_DUPFD, 10);
	out = fcntl(out, F_DUPFD, 10);
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	syscall(SYS_close_range, 3U, ~0U, 0);
	execvp(argv[0], argv);
	dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* The first process of a pid namespace below the lane's: reaps, and ends as the command does. */
static void be_init(char **field)
{
	pid_t command, pid;
	int status;

	setsid();
	default_signals();
	command = fork();
	if (command == 0)
		become(field[2], field[3], field[4], field[5], -1, field + 6);
	syscall(SYS_close_range, 0U, ~0U, 0);
	while ((pid = waitpid(-1, &status, __WALL)) != command)
		if (pid < 0 && errno != EINTR)
			_exit(125);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static int open_terminal(const char *log, int *slave)
{
	struct winsize size = {.ws_row = 25, .ws_col = 80};
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	int slot;

	for (slot = 0; slot < MAX_TERMINALS && terminals[slot].pid; slot++)
		;
	if (master < 0 || slot == MAX_TERMINALS)
		return -1;
	grantpt(master);
	unlockpt(master);
	*slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ioctl(master, TIOCSWINSZ, &size);
	terminals[slot].master = master;
	terminals[slot].log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return slot;
}

static void spawn(char **field, size_t count)
{
	int slave = -1, slot = -1;
	pid_t pid;

	if (count < 7) {
		SAY("failed", field[1], "too few fields");
		return;
	}
	if (strstr(field[5], "pty") && ((slot = open_terminal(field[4], &slave)) < 0 || slave < 0)) {
		SAY("failed", field[1], "no terminal");
		return;
	}
	if (strstr(field[5], "init")) {
		pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | (strstr(field[5], "ipc") ? CLONE_NEWIPC : 0) | SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			be_init(field);
	} else {
		pid = fork();
	}
	if (pid == 0)
		become(field[2], field[3], field[4], field[5], slave, field + 6);
	if (slave >= 0) {
		close(slave);
		terminals[slot].pid = pid;
	}
	if (pid < 0)
		SAY("failed", field[1], strerror(errno));
	else
		SAY("spawned", field[1], number(pid));
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		SAY("exit", number(pid), number(status));
}

static void copy_terminal(struct terminal *t)
{
	char text[4096];
	ssize_t got = read(t->master, text, sizeof text);

	if (got > 0) {
		if (write(t->log, text, (size_t)got) < 0)
			die("terminal log");
		return;
	}
	if (got < 0 && errno == EAGAIN)
		return;
	close(t->master);
	close(t->log);
	memset(t, 0, sizeof *t);
}

static void type_text(pid_t pid, const char *text)
{
	for (int i = 0; i < MAX_TERMINALS; i++)
		if (terminals[i].pid == pid && write(terminals[i].master, text, strlen(text)) < 0)
			fprintf(stderr, "agent: cannot type: %s\n", strerror(errno));
}

/* ---- leftovers --------------------------------------------------------------------------------------------------- */

static size_t slurp(const char *path, char *into, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t got;

	if (fd >= 0) {
		while (used + 1 < room && (got = read(fd, into + used, room - 1 - used)) > 0)
			used += (size_t)got;
		close(fd);
	}
	into[used] = 0;
	return used;
}

static void left_processes(const char *id)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc))) {
		char path[64], text[512];
		if (atoi(entry->d_name) <= 1)
			continue;
		snprintf(path, sizeof path, "/proc/%d/stat", atoi(entry->d_name));
		if (slurp(path, text, sizeof text)) {
			text[60] = 0;
			SAY("left", id, "process", text);
		}
	}
	if (proc)
		closedir(proc);
}

static void left_directory(const char *id, const char *kind, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			SAY("left", id, kind, entry->d_name);
	if (dir)
		closedir(dir);
}

static void left_sysv(const char *id, const char *path)
{
	char text[4096];
	char *row;

	slurp(path, text, sizeof text);
	row = strchr(text, '\n');
	if (row && row[1])
		SAY("left", id, path, row + 1);
}

static void inspect(const char *id)
{
	static char mounts[sizeof known_mounts];

	left_processes(id);
	left_directory(id, "/dev/shm", "/dev/shm");
	left_sysv(id, "/proc/sysvipc/shm");
	left_sysv(id, "/proc/sysvipc/msg");
	left_sysv(id, "/proc/sysvipc/sem");
	slurp("/proc/self/mountinfo", mounts, sizeof mounts);
	if (strcmp(mounts, known_mounts))
		SAY("left", id, "mounts", mounts);
	SAY("inspected", id);
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static void sweep(void)
{
	int status;
	pid_t pid;

	kill(-1, SIGKILL);
	while ((pid = waitpid(-1, &status, __WALL)) > 0)
		SAY("exit", number(pid), number(status));
	SAY("swept");
}

static char *unescape(char *text)
{
	char *out = text;

	for (char *in = text; *in; in++) {
		if (*in == '\\' && in[1]) {
			in++;
			*out++ = *in == 't' ? '\t' : *in == 'n' ? '\n' : *in;
		} else {
			*out++ = *in;
		}
	}
	*out = 0;
	return text;
}

static void obey(char *request)
{
	static char *field[MAX_FIELDS + 1];
	size_t count = 0;
	char *rest = request;

	while (rest && count < MAX_FIELDS)
		field[count++] = unescape(strsep(&rest, "\t"));
	field[count] = NULL;
	if (!strcmp(field[0], "spawn"))
		spawn(field, count);
	else if (!strcmp(field[0], "kill") && count == 3)
		kill(atoi(field[1]), atoi(field[2]));
	else if (!strcmp(field[0], "type") && count == 3)
		type_text(atoi(field[1]), field[2]);
	else if (!strcmp(field[0], "sweep"))
		sweep();
	else if (!strcmp(field[0], "inspect") && count == 2)
		inspect(field[1]);
	else if (!strcmp(field[0], "mounts") && count == 2) {
		slurp("/proc/self/mountinfo", known_mounts, sizeof known_mounts);
		SAY("noted", field[1]);
	} else
		fprintf(stderr, "agent: bad request %s\n", field[0]);
}

static void read_requests(void)
{
	ssize_t got = read(0, line + line_used, sizeof line - 1 - line_used);
	char *start = line, *end;

	if (got <= 0)
		exit(0);
	line_used += (size_t)got;
	line[line_used] = 0;
	while ((end = strchr(start, '\n'))) {
		*end = 0;
		obey(start);
		start = end + 1;
	}
	line_used -= (size_t)(start - line);
	memmove(line, start, line_used);
	if (line_used == sizeof line - 1)
		die("request too long");
}

/* Own /run and /dev/shm: what a tool caches or leaves there stays in this lane and is seen by `inspect`. */
static void own_directories(void)
{
	if (mount("lane", "/run", "tmpfs", 0, "mode=755") < 0 || mount("lane", "/dev/shm", "tmpfs", 0, "mode=1777") < 0)
		die("mount");
	/* Terminals of the lane's own: their numbers come free when its processes end, whatever other lanes do. */
	if (mount("lane", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620") < 0 || mount("/dev/pts/ptmx", "/dev/ptmx", NULL, MS_BIND, NULL) < 0)
		die("mount devpts");
}

int main(void)
{
	struct pollfd wait_for[2 + MAX_TERMINALS];
	sigset_t child;
	int child_fd;

	if (getpid() != 1) {
		fprintf(stderr, "agent: must be the first process of a pid namespace\n");
		return 2;
	}
	own_directories();
	for (int fd = 0; fd < 3; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	syscall(SYS_close_range, 3U, ~0U, 0);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	SAY("agent");
	for (;;) {
		wait_for[0] = (struct pollfd){.fd = 0, .events = POLLIN};
		wait_for[1] = (struct pollfd){.fd = child_fd, .events = POLLIN};
		for (int i = 0; i < MAX_TERMINALS; i++)
			wait_for[2 + i] = (struct pollfd){.fd = terminals[i].pid ? terminals[i].master : -1, .events = POLLIN};
		if (poll(wait_for, 2 + MAX_TERMINALS, -1) < 0 && errno != EINTR)
			die("poll");
		if (wait_for[1].revents) {
			struct signalfd_siginfo info;
			while (read(child_fd, &info, sizeof info) > 0)
				;
			reap();
		}
		for (int i = 0; i < MAX_TERMINALS; i++)
			if (wait_for[2 + i].revents)
				copy_terminal(&terminals[i]);
		if (wait_for[0].revents)
			read_requests();
	}
}
