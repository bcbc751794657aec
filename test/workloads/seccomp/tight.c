/*
 * Children that may hardly do anything: "strict" mode, or "kill": a filter that kills for everything but read, write and
 * exit. What they may do works, what they may not still kills them.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "workload.h"

static void confine(bool strict)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};

	if (strict) {
		must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
		return;
	}
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static void confined(bool strict, int in, int out)
{
	char byte;

	confine(strict);
	/* Answers every byte with the next one; 'x' asks for what is forbidden. */
	while (read(in, &byte, 1) == 1) {
		if (byte == 'x')
			syscall(SYS_getppid);
		byte++;
		if (write(out, &byte, 1) != 1)
			break;
	}
	for (;;)
		;
}

int main(int argc, char **argv)
{
	bool strict = argc > 2 && !strcmp(argv[2], "strict");
	int to[2], from[2], status;
	char byte = 'a';
	pid_t child;

	must(pipe(to));
	must(pipe(from));
	child = must(fork());
	if (child == 0)
		confined(strict, to[0], from[1]);
	must(write(to[1], &byte, 1));
	must(read(from[0], &byte, 1));
	ready();
	wait_for_go();
	check_state();
	must(write(to[1], &byte, 1));
	must(read(from[0], &byte, 1));
	check(byte == 'c', "the confined child answers %c", byte);
	byte = 'x';
	must(write(to[1], &byte, 1));
	must(waitpid(child, &status, 0));
	check(WIFSIGNALED(status) && WTERMSIG(status) == (strict ? SIGKILL : SIGSYS), "the child is not confined any more: status %x", status);
	pass();
}
