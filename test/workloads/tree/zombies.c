/* Zombies of every kind of end: exit codes, signals, with and without core flag; wait reports each as it was. */
#include <sys/resource.h>

#include "workload.h"

static const struct {
	int code, signal;
} ends[] = {{0, 0}, {1, 0}, {42, 0}, {127, 0}, {0, SIGKILL}, {0, SIGTERM}, {0, SIGSEGV}, {0, SIGUSR1}, {255, 0}, {0, 64}, {128, 0}};
enum { ZOMBIES = sizeof ends / sizeof *ends, USUAL = 8 };
static int zombie_count = USUAL;

/* With "any": also codes above 127 and the last real-time signal. */
int main(int argc, char **argv)
{
	struct rlimit no_core = {0, 0};
	pid_t zombies[ZOMBIES];

	if (argc > 2 && !strcmp(argv[2], "any"))
		zombie_count = ZOMBIES;
	must(setrlimit(RLIMIT_CORE, &no_core));
	for (int i = 0; i < zombie_count; i++) {
		if ((zombies[i] = must(fork())) == 0) {
			if (i % 2)
				must(setpgid(0, 0));
			if (ends[i].signal)
				raise(ends[i].signal);
			_exit(ends[i].code);
		}
	}
	for (int i = 0; i < zombie_count; i++) {
		siginfo_t info;
		must(waitid(P_PID, (id_t)zombies[i], &info, WEXITED | WNOWAIT));
	}
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < zombie_count; i++)
		check(task_state(zombies[i]) == 'Z', "zombie %d is in state %c", zombies[i], task_state(zombies[i]));
	for (int i = 0; i < zombie_count; i++) {
		siginfo_t info = {0};
		pid_t group = getpgid(zombies[i]), expected_group = i % 2 ? zombies[i] : getpgrp();
		int status;

		check(group == expected_group, "zombie %d is in group %d, was %d", zombies[i], group, expected_group);
		check(waitid(P_PID, (id_t)zombies[i], &info, WEXITED | WNOWAIT) == 0 && info.si_pid == zombies[i], "waitid gave %d", info.si_pid);
		check(waitpid(zombies[i], &status, 0) == zombies[i], "zombie %d is gone: %s", zombies[i], strerror(errno));
		if (ends[i].signal)
			check(WIFSIGNALED(status) && WTERMSIG(status) == ends[i].signal, "zombie %d: status %#x, not signal %d", i, status, ends[i].signal);
		else
			check(WIFEXITED(status) && WEXITSTATUS(status) == ends[i].code, "zombie %d: status %#x, not code %d", i, status, ends[i].code);
	}
	check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "there are more children than were made");
	pass();
}
