/*
 * A snapshot is text: one line a fact, each starting with a word that says what it is about. It is written without
 * malloc and stdio into memory reserved beforehand, so that taking it changes nothing it describes.
 */
#include "snapshot.h"

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "workload.h"

#define ROOM (8u << 20)
#define MAX_IGNORED 64
#define MAX_REPORTED 20

struct text {
	char *bytes;
	size_t used;
};

static char kept_bytes[ROOM], now_bytes[ROOM], file_bytes[ROOM];
static struct text kept = {kept_bytes, 0};
static const char *ignored[MAX_IGNORED];
static unsigned ignored_count;
static int64_t kept_at;

void snapshot_ignores(const char *prefix)
{
	if (ignored_count == MAX_IGNORED)
		fail("too many ignored prefixes");
	ignored[ignored_count++] = prefix;
}

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *format, ...)
{
	va_list list;
	int wrote;

	va_start(list, format);
	wrote = vsnprintf(t->bytes + t->used, ROOM - t->used, format, list);
	va_end(list);
	if (wrote < 0 || t->used + (size_t)wrote + 2 > ROOM)
		fail("the snapshot does not fit");
	t->used += (size_t)wrote;
	t->bytes[t->used++] = '\n';
	t->bytes[t->used] = 0;
}

static size_t read_whole(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t got;

	if (fd < 0) {
		file_bytes[0] = 0;
		return 0;
	}
	while (used + 1 < ROOM && (got = read(fd, file_bytes + used, ROOM - 1 - used)) > 0)
		used += (size_t)got;
	close(fd);
	file_bytes[used] = 0;
	return used;
}

/* A file's whole content as one line: text as it is, NUL as '|', other bytes in hexadecimal. */
static void add_file(struct text *t, const char *name)
{
	char path[64], *at;
	size_t bytes;

	snprintf(path, sizeof path, "/proc/self/%s", name);
	bytes = read_whole(path);
	if (t->used + 4 * bytes + 256 > ROOM)
		fail("the snapshot does not fit");
	t->used += (size_t)sprintf(t->bytes + t->used, "file %s %zu ", name, bytes);
	at = t->bytes + t->used;
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)file_bytes[i];
		if (c == 0)
			*at++ = '|';
		else if (isprint(c))
			*at++ = (char)c;
		else
			at += sprintf(at, "<%02x>", c);
	}
	*at++ = '\n';
	*at = 0;
	t->used = (size_t)(at - t->bytes);
}

static void link_of(const char *path, char *into, size_t room)
{
	ssize_t got = readlink(path, into, room - 1);

	into[got > 0 ? got : 0] = 0;
}

/* ---- mappings ---------------------------------------------------------------------------------------------------- */

/* Shared anonymous memory is a nameless file of the kernel's; its inode number is not state. */
static bool is_nameless(const char *name)
{
	return !strcmp(name, "/dev/zero (deleted)") || !strcmp(name, "/memfd:/dev/zero (deleted)") ||
		/* What the peer makes of it when memfds are about. */
		!strcmp(name, "/memfd: (deleted)") || !strncmp(name, "/SYSV", 5);
}

/* "ac" (accounted) stays with a mapping that once was writable, even while it was made: it is bookkeeping, not state. */
static void strip_accounted(char *row)
{
	char *found = strstr(row, " ac ");

	if (found)
		memmove(found, found + 3, strlen(found + 3) + 1);
}

struct mapping {
	unsigned long start, end, offset, inode;
	char perms[8], dev[16], name[512], key[64], flags[160];
};

/* Memory that shows itself as a file: its inode number is a counter of the kernel's. */
static bool is_unnamed_file(const char *name)
{
	return !strncmp(name, "/memfd:", 7) || !strncmp(name, "/[aio]", 6) || !strncmp(name, "/anon_hugepage", 14) || !strcmp(name, "/dev/zero (deleted)");
}

static void add_mapping(struct text *t, const struct mapping *m)
{
	if (!m->end)
		return;
	if (is_nameless(m->name))
		add(t, "map %lx-%lx %s %lx shared-anonymous", m->start, m->end, m->perms, m->offset);
	else
		add(t, "map %lx-%lx %s %lx %s %lu %s", m->start, m->end, m->perms, m->offset, m->dev,
		    is_unnamed_file(m->name) ? 0 : m->inode, m->name);
	add(t, "mapflags %lx-%lx %s %s", m->start, m->end, m->key, m->flags);
}

/* Where one mapping ends and the next of the same kind begins is the kernel's business: it merges when it can. */
static bool continues(const struct mapping *a, const struct mapping *b)
{
	bool of_file = b->inode != 0;

	return a->end == b->start && !strcmp(a->perms, b->perms) && !strcmp(a->dev, b->dev) && a->inode == b->inode &&
		!strcmp(a->name, b->name) && !strcmp(a->key, b->key) && !strcmp(a->flags, b->flags) &&
		(!of_file || a->offset + (a->end - a->start) == b->offset);
}

static void add_mappings(struct text *t)
{
	static struct mapping whole, part;
	char *rest, *row;

	whole.end = 0;
	read_whole("/proc/self/smaps");
	rest = file_bytes;
	while ((row = strsep(&rest, "\n"))) {
		int name_at = 0;

		if (isxdigit((unsigned char)row[0]) && sscanf(row, "%*x-%*x %*s %*x %*s %*u %n", &name_at) == 0 && name_at) {
			sscanf(row, "%lx-%lx %7s %lx %15s %lu", &part.start, &part.end, part.perms, &part.offset, part.dev, &part.inode);
			snprintf(part.name, sizeof part.name, "%s", row + name_at);
		} else if (!strncmp(row, "ProtectionKey:", 14)) {
			snprintf(part.key, sizeof part.key, "key %d", atoi(row + 14));
		} else if (!strncmp(row, "VmFlags:", 8)) {
			strip_accounted(row);
			snprintf(part.flags, sizeof part.flags, "%s", row);
			if (whole.end && continues(&whole, &part)) {
				whole.end = part.end;
			} else {
				add_mapping(t, &whole);
				whole = part;
			}
		}
	}
	add_mapping(t, &whole);
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

static void strip_inode(char *link)
{
	char *bracket = strstr(link, ":[");

	if (bracket && (!strncmp(link, "pipe:", 5) || !strncmp(link, "socket:", 7)))
		*bracket = 0;
}

static bool proc_is_outer_;

/* Where /proc shows the pid namespace around ours, numbers are others after a restore, but for the last of each list. */
static const char *inner(char *row)
{
	static char text[64];
	char *last;

	if (!proc_is_outer_)
		return row;
	if (!strncmp(row, "Tgid:", 5) || !strncmp(row, "Pid:", 4) || !strncmp(row, "PPid:", 5))
		return "";
	if (strncmp(row, "NS", 2) || !(last = strrchr(row, '\t')))
		return row;
	snprintf(text, sizeof text, "%.6s%s", row, last);
	return text;
}

static void add_descriptor(struct text *t, int fd)
{
	char path[64], link[4096];
	struct f_owner_ex owner = {0, 0};
	struct stat st;
	char *rest, *row;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	link_of(path, link, sizeof link);
	strip_inode(link);
	if (fstat(fd, &st) < 0)
		memset(&st, 0, sizeof st);
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISCHR(st.st_mode) || S_ISLNK(st.st_mode))
		add(t, "fd %d link %s dev %lx ino %lu mode %o", fd, link, (long)st.st_dev,
		    is_unnamed_file(link) ? 0 : (long)st.st_ino, st.st_mode);
	else
		add(t, "fd %d link %s mode %o", fd, link, st.st_mode);
	if (S_ISFIFO(st.st_mode))
		add(t, "fd %d pipe size %d", fd, fcntl(fd, F_GETPIPE_SZ));
	fcntl(fd, F_GETOWN_EX, &owner);
	add(t, "fd %d owner %d %d signal %d", fd, owner.type, owner.pid, fcntl(fd, F_GETSIG));
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	read_whole(path);
	rest = file_bytes;
	while ((row = strsep(&rest, "\n")))
		/* Whether the kernel has work for a waiting request of io_uring right now is no state. */
		if (*row && !strstr(row, "task_works=") && !(proc_is_outer_ && (!strncmp(row, "Pid:", 4) || !strncmp(row, "lock:", 5))) &&
		    strncmp(row, "mnt_id:", 7) && strncmp(row, "ino:", 4) && !(fd <= 2 && !strncmp(row, "pos:", 4)))
			add(t, "fd %d %s", fd, inner(row));
}

/* readdir() would call malloc: read the directory by the system call. */
unsigned list_numbers(const char *path, int *numbers, unsigned room)
{
	static char entries[1 << 16];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool has_own = !strcmp(path, "/proc/self/fd");
	unsigned count = 0;
	long got;

	while (fd >= 0 && (got = syscall(SYS_getdents64, fd, entries, sizeof entries)) > 0)
		for (long at = 0; at < got;) {
			const char *name = entries + at + 19;
			int number = atoi(name);
			if (isdigit((unsigned char)name[0]) && !(has_own && number == fd) && count < room)
				numbers[count++] = number;
			at += *(unsigned short *)(entries + at + 16);
		}
	close(fd);
	return count;
}

static void add_descriptors(struct text *t)
{
	static int fds[16384];
	unsigned count = list_numbers("/proc/self/fd", fds, 16384);

	add(t, "fds %u", count);
	for (unsigned i = 0; i < count; i++)
		add_descriptor(t, fds[i]);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

static bool is_volatile(const char *row)
{
	static const char *const names[] = {"State:", "Vm", "Rss", "HugetlbPages:", "FDSize:", "SigQ:", "voluntary", "nonvoluntary"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strncmp(row, names[i], strlen(names[i])))
			return true;
	return false;
}

struct sched_attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

/* Sorted, because the order of siblings is no promise of the kernel's. */
static void add_children(struct text *t, int tid)
{
	static int pids[8192];
	char path[96], *rest = file_bytes, *word;
	unsigned count = 0;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", tid);
	read_whole(path);
	while ((word = strsep(&rest, " ")) && count < 8192)
		if (*word) {
			unsigned at = count++;
			for (; at > 0 && pids[at - 1] > atoi(word); at--)
				pids[at] = pids[at - 1];
			pids[at] = atoi(word);
		}
	for (unsigned i = 0; i < count; i++)
		add(t, "task %d child %d", tid, pids[i]);
}

/* A thread's own number. */
static int inner_number(int tid, const char *status)
{
	const char *at = proc_is_outer_ ? strstr(status, "NSpid:") : NULL;

	for (; at && *at && *at != '\n'; at++)
		if (*at == '\t')
			tid = atoi(at + 1);
	return tid;
}

static void add_task(struct text *t, int entry)
{
	struct sched_attributes sched = {.size = sizeof sched};
	char path[96];
	char *rest, *row;
	int tid;

	snprintf(path, sizeof path, "/proc/self/task/%d/status", entry);
	read_whole(path);
	tid = inner_number(entry, file_bytes);
	rest = file_bytes;
	while ((row = strsep(&rest, "\n")))
		if (*row && !is_volatile(row))
			add(t, "task %d %s", tid, inner(row));
	if (!proc_is_outer_)
		add_children(t, tid);
	syscall(SYS_sched_getattr, tid, &sched, sizeof sched, 0);
	/* The runtime field of an ordinary task is the kernel's time slice, not state. */
	add(t, "task %d sched policy %u flags %lx nice %d priority %u", tid, sched.policy, (long)sched.flags, sched.nice, sched.priority);
	add(t, "task %d ioprio %ld", tid, syscall(SYS_ioprio_get, 1, tid));
}

static void add_tasks(struct text *t)
{
	static int tids[4096];
	unsigned count = list_numbers("/proc/self/task", tids, 4096);

	for (unsigned i = 0; i < count; i++)
		add_task(t, tids[i]);
}

/* The fields of /proc/self/stat that say what the task is, numbered as in proc_pid_stat(5). */
static void add_stat(struct text *t)
{
	static const struct {
		int field;
		const char *name;
	} wanted[] = {{4, "ppid"}, {5, "pgrp"}, {6, "session"}, {7, "tty"}, {18, "priority"}, {19, "nice"}, {20, "threads"},
		{26, "startcode"}, {27, "endcode"}, {28, "startstack"}, {38, "exit_signal"}, {40, "rt_priority"}, {41, "policy"},
		{45, "start_data"}, {46, "end_data"}, {47, "start_brk"}, {48, "arg_start"}, {49, "arg_end"}, {50, "env_start"}, {51, "env_end"}};
	char *rest;
	int field = 3;

	read_whole("/proc/self/stat");
	rest = strrchr(file_bytes, ')');
	if (!rest)
		fail("/proc/self/stat cannot be read");
	rest += 2;
	for (char *value; (value = strsep(&rest, " \n")) && *value; field++)
		for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
			if (wanted[i].field == field && !(proc_is_outer_ && field <= 6))
				add(t, "stat %s %s", wanted[i].name, value);
	if (proc_is_outer_) {
		add(t, "stat ppid %d", getppid());
		add(t, "stat pgrp %d", getpgrp());
		add(t, "stat session %d", getsid(0));
	}
	add(t, "stat brk %lx", syscall(SYS_brk, 0));
}

/* ---- signals, timers, attributes --------------------------------------------------------------------------------- */

struct kernel_sigaction {
	unsigned long handler, flags, restorer, mask;
};

static void add_signals(struct text *t)
{
	stack_t alt;
	uint64_t mask = 0;
	void *head = NULL;
	size_t length = 0;

	for (int sig = 1; sig <= 64; sig++) {
		struct kernel_sigaction sa = {0, 0, 0, 0};
		syscall(SYS_rt_sigaction, sig, NULL, &sa, 8);
		add(t, "sigaction %d handler %lx flags %lx restorer %lx mask %lx", sig, sa.handler, sa.flags, sa.restorer, sa.mask);
	}
	sigaltstack(NULL, &alt);
	add(t, "altstack %p %zu flags %x", alt.ss_sp, alt.ss_size, alt.ss_flags);
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	add(t, "sigmask %lx", (unsigned long)mask);
	syscall(SYS_get_robust_list, 0, &head, &length);
	add(t, "robust list %p %zu", head, length);
}

static void add_timers(struct text *t)
{
	char *rest, *row;

	for (int which = 0; which < 3; which++) {
		struct itimerval value;
		getitimer(which, &value);
		add(t, "itimer %d interval %ld.%06ld %s", which, value.it_interval.tv_sec, value.it_interval.tv_usec,
			value.it_value.tv_sec || value.it_value.tv_usec ? "armed" : "off");
	}
	read_whole("/proc/self/timers");
	rest = file_bytes;
	while ((row = strsep(&rest, "\n")))
		if (*row && !(proc_is_outer_ && !strncmp(row, "notify:", 7)))
			add(t, "timer %s", row);
}

static void add_prctl(struct text *t, int option, const char *name, bool by_pointer)
{
	unsigned long value = 0;
	int result = by_pointer ? prctl(option, &value, 0, 0, 0) : prctl(option, 0, 0, 0, 0);

	add(t, "prctl %s %d %lx", name, result, value);
}

static void add_attributes(struct text *t)
{
	static const char *const files[] = {"comm", "cmdline", "environ", "auxv", "personality", "oom_score_adj", "coredump_filter",
		"loginuid", "limits", "cgroup", "uid_map", "gid_map", "setgroups", "attr/current", "mountinfo"};
	static const char *const links[] = {"exe", "cwd", "root", "ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid",
		"ns/pid_for_children", "ns/time", "ns/time_for_children", "ns/user", "ns/uts"};
	char path[64], link[4096];

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		add_file(t, files[i]);
	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		snprintf(path, sizeof path, "/proc/self/%s", links[i]);
		link_of(path, link, sizeof link);
		/* A tree that has a pid namespace of its own gets another one. */
		if (!(proc_is_outer_ && !strncmp(links[i], "ns/pid", 6)))
			add(t, "link %s %s", links[i], link);
	}
	add_prctl(t, PR_GET_PDEATHSIG, "pdeathsig", true);
	add_prctl(t, PR_GET_DUMPABLE, "dumpable", false);
	add_prctl(t, PR_GET_KEEPCAPS, "keepcaps", false);
	add_prctl(t, PR_GET_SECUREBITS, "securebits", false);
	add_prctl(t, PR_GET_TIMERSLACK, "timerslack", false);
	add_prctl(t, PR_GET_TIMING, "timing", false);
	add_prctl(t, PR_GET_TSC, "tsc", true);
	add_prctl(t, PR_GET_CHILD_SUBREAPER, "subreaper", true);
	add_prctl(t, PR_GET_THP_DISABLE, "thp_disable", false);
	add_prctl(t, PR_GET_NO_NEW_PRIVS, "no_new_privs", false);
	add_prctl(t, PR_MCE_KILL_GET, "mce_kill", false);
	add_prctl(t, PR_GET_TID_ADDRESS, "tid_address", true);
	add_prctl(t, PR_GET_SECCOMP, "seccomp", false);
}

/* ---- keep and compare -------------------------------------------------------------------------------------------- */

static void take(struct text *t)
{
	t->used = 0;
	proc_is_outer_ = proc_is_outer();
	add_mappings(t);
	add_descriptors(t);
	add_tasks(t);
	add_stat(t);
	add_signals(t);
	add_timers(t);
	add_attributes(t);
}

/* The stack must not grow after the snapshot: use now what the checks will use later. */
static void __attribute__((noinline)) grow_stack(void)
{
	volatile char room[192 << 10];

	for (size_t i = 0; i < sizeof room; i += 4096)
		room[i] = 1;
	room[sizeof room - 1] = room[0];
}

void snapshot_keep(void)
{
	grow_stack();
	take(&kept);
	kept_at = now_ms();
}

static const char *line_end(const char *line)
{
	return strchrnul(line, '\n');
}

static bool has_line(const char *text, const char *line)
{
	size_t length = (size_t)(line_end(line) - line);

	for (; *text; text = line_end(text) + 1)
		if (!strncmp(text, line, length) && text[length] == '\n')
			return true;
	return false;
}

static bool is_ignored(const char *line)
{
	for (unsigned i = 0; i < ignored_count; i++)
		if (!strncmp(line, ignored[i], strlen(ignored[i])))
			return true;
	return false;
}

static unsigned report_missing(const char *from, const char *in, const char *word)
{
	unsigned count = 0;

	for (; *from; from = line_end(from) + 1)
		if (!has_line(in, from) && !is_ignored(from) && count++ < MAX_REPORTED)
			note("DIFFERS: %s: %.*s", word, (int)(line_end(from) - from), from);
	return count;
}

unsigned snapshot_compare(void)
{
	struct text now = {now_bytes, 0};
	const char *a = kept.bytes, *b = now.bytes;
	unsigned count;

	if (!kept.used)
		fail("no snapshot was kept");
	take(&now);
	/* Only what follows the equal beginning is searched, which keeps a large snapshot cheap. */
	while (*a && *b) {
		size_t length = (size_t)(line_end(a) + 1 - a);
		if (strncmp(a, b, length))
			break;
		a += length;
		b += length;
	}
	count = report_missing(a, b, "lost") + report_missing(b, a, "new");
	if (now_ms() < kept_at) {
		note("DIFFERS: CLOCK_MONOTONIC went back");
		count++;
	}
	return count;
}
