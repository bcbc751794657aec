/*
 * Calls that end when a signal is handled, while signals come all the time, also in a freeze: the call ends then, too, and nobody waits
 * for ever. By main threads and by others.
 */
#include <pthread.h>
#include <poll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/time.h>

#include <ucontext.h>

#include "workload.h"

enum { KINDS = 6 };

struct common {
	int finish;
	/* How often a handler ran where a call was about to be made: it began again, or the signal came in the very instruction before it. */
	int before;
};

static struct common *common;
static int kind, queue, quiet[2];

long raw_call(long nr, ...);
extern const char raw_begin[], raw_end[];
__asm__(".text\nraw_call: mov %rdi,%rax\nmov %rsi,%rdi\nmov %rdx,%rsi\nmov %rcx,%rdx\nmov %r8,%r10\nmov %r9,%r8\n"
	"raw_begin: syscall\nraw_end: ret\n");

static void handle(int sig, siginfo_t *info, void *context)
{
	ucontext_t *at = context;

	(void)sig, (void)info;
	if (at->uc_mcontext.gregs[REG_RIP] == (greg_t)raw_begin)
		__atomic_fetch_add(&common->before, 1, __ATOMIC_SEQ_CST);
}

static long wait_once(void)
{
	struct timespec t = {1000, 0};
	struct {
		long type;
		char text[8];
	} message;

	switch (kind) {
	case 0:
		return raw_call(SYS_pause);
	case 1:
		return raw_call(SYS_select, 0, NULL, NULL, NULL, NULL);
	case 2:
		return raw_call(SYS_nanosleep, &t, NULL);
	case 3:
		return raw_call(SYS_poll, NULL, 0, 1000000);
	case 4:
		return raw_call(SYS_msgrcv, queue, &message, sizeof message.text, 0, 0);
	default:
		/* Its handler does not ask for calls to begin again. */
		return raw_call(SYS_read, quiet[0], &message, 1);
	}
}

static void *wait_often(void *unused)
{
	/* Again and again: one may come before the call. */
	struct itimerval soon = {.it_value = {0, 1500}, .it_interval = {0, 1500}};
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	must_zero(pthread_sigmask(SIG_UNBLOCK, &alarm, NULL));
	must(setitimer(ITIMER_REAL, &soon, NULL));
	while (!__atomic_load_n(&common->finish, __ATOMIC_SEQ_CST)) {
		long result = wait_once();

		check(result == -EINTR, "kind %d: %ld", kind, result);
	}
	_exit(differences_seen() != 0);
	return unused;
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = handle};
	pid_t children[2 * KINDS];
	sigset_t alarm;

	common = shared_memory(sizeof *common);
	queue = must(msgget(IPC_PRIVATE, 0600));
	must(pipe(quiet));
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	for (int i = 0; i < 2 * KINDS; i++) {
		pthread_t thread;

		children[i] = must(fork());
		if (children[i] != 0)
			continue;
		kind = i / 2;
		action.sa_flags = SA_SIGINFO | (kind == KINDS - 1 ? 0 : SA_RESTART);
		must(sigaction(SIGALRM, &action, NULL));
		if (i % 2 == 0)
			wait_often(NULL);
		must(sigprocmask(SIG_BLOCK, &alarm, NULL));
		must_zero(pthread_create(&thread, NULL, wait_often, NULL));
		pthread_join(thread, NULL);
	}
	snapshot_ignores("");
	ready();
	wait_for_go();
	__atomic_store_n(&common->finish, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 2 * KINDS; i++)
		child_passed(children[i]);
	check(common->before <= 1, "%d calls began again, or would have, behind a handler", common->before);
	must(msgctl(queue, IPC_RMID, NULL));
	pass();
}
