/*
 * A session with a pseudo-terminal whose master is held by somebody else in the tree: when that one closes it, the session is
 * hung up: its leader gets SIGHUP, reads of the terminal end, and there is no /dev/tty any more.
 */
#include "workload.h"

static volatile sig_atomic_t hung_up;

static void note_hangup(int signal)
{
	(void)signal;
	hung_up++;
}

static _Noreturn void lead(const char *name, int told)
{
	struct sigaction action = {.sa_handler = note_hangup};
	char byte = 0;
	int slave;

	must(setsid());
	slave = must(open(name, O_RDWR));
	must(sigaction(SIGHUP, &action, NULL));
	must(write(told, &byte, 1));
	must(close(told));
	for (int i = 0; i < 60000 && !hung_up; i++)
		sleep_ms(1);
	check(hung_up == 1, "the leader of the session got %d SIGHUPs", (int)hung_up);
	check(read(slave, &byte, 1) <= 0, "the terminal can be read after it has hung up");
	check(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO, "there still is a controlling terminal: %s", strerror(errno));
	_exit(differences_seen() != 0);
}

int main(void)
{
	int master = must(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)), told[2], status;
	pid_t leader;
	char byte;

	must(grantpt(master));
	must(unlockpt(master));
	must(pipe2(told, O_CLOEXEC));
	if ((leader = must(fork())) == 0) {
		char name[64];

		snprintf(name, sizeof name, "%s", ptsname(master));
		must(close(master));
		must(close(told[0]));
		lead(name, told[1]);
	}
	must(close(told[1]));
	must(read(told[0], &byte, 1));
	must(close(told[0]));
	ready();
	wait_for_go();
	check_state();
	check(waitpid(leader, &status, WNOHANG) == 0, "the leader ended before the master was closed");
	must(close(master));
	must(waitpid(leader, &status, 0));
	check(status == 0, "the leader ended with %#x", status);
	pass();
}
