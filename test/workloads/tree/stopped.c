/* Children stopped by SIGSTOP and SIGTSTP stay stopped, the stop is reported to wait, and SIGCONT lets them go on. */
#include "workload.h"

static const int stops[] = {SIGSTOP, SIGTSTP};
static volatile uint64_t *counters;

static void worker(int slot)
{
	/* A group of its own, with its parent in the session but outside of the group: else SIGTSTP would not stop it. */
	must(setpgid(0, 0));
	for (;;) {
		counters[slot]++;
		if (go_given() && counters[2])
			_exit(0);
		sleep_ms(1);
	}
}

int main(void)
{
	uint64_t at_stop[2];
	pid_t kids[2];
	int status;

	counters = shared_memory(4096);
	for (int i = 0; i < 2; i++)
		if ((kids[i] = must(fork())) == 0)
			worker(i);
	for (int i = 0; i < 2; i++) {
		while (!counters[i])
			sleep_ms(1);
		must(kill(kids[i], stops[i]));
		while (task_state(kids[i]) != 'T')
			sleep_ms(1);
		at_stop[i] = counters[i];
	}
	/* The stop of the second was already reported, the one of the first was not. */
	must(waitpid(kids[1], &status, WUNTRACED));
	ready();
	wait_for_go();
	sleep_ms(50);
	check_state();
	for (int i = 0; i < 2; i++) {
		check(comes_to(kids[i], 'T'), "child %d is in state %c", i, task_state(kids[i]));
		check(counters[i] == at_stop[i], "child %d ran while it was stopped", i);
	}
	status = 0;
	check(waitpid(kids[0], &status, WUNTRACED | WNOHANG) == kids[0] && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP,
		"the unreported stop of the first child: status %#x", status);
	for (int i = 0; i < 2; i++) {
		must(kill(kids[i], SIGCONT));
		must(waitpid(kids[i], &status, WCONTINUED));
		check(WIFCONTINUED(status), "child %d continued: status %#x", i, status);
	}
	counters[2] = 1;
	for (int i = 0; i < 2; i++) {
		must(waitpid(kids[i], &status, 0));
		check(status == 0, "child %d ended with %#x", i, status);
	}
	pass();
}
