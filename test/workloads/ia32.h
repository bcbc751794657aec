/* 32-bit programs (ia32), made by gcc where a workload runs, without a C library. */
#pragma once
#include "workload.h"

static inline void compile_ia32(const char *program, const char *name)
{
	char command[512];
	FILE *to;

	snprintf(command, sizeof command, "gcc -m32 -O1 -nostdlib -static -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -w -o %s -x c -", name);
	to = popen(command, "w");
	if (!to || fputs(program, to) < 0 || pclose(to) != 0)
		fail("gcc makes no 32-bit program here");
}
