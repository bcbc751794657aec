/*
 * What every workload uses. A workload sets up one kind of state, says ready(), waits, then checks everything about that
 * state and ends in pass(). The first argument of a workload is the path of its "go" file: the test runner makes that
 * file when the workload is to look at itself; further arguments are the workload's own.
 *
 * ready() also keeps a snapshot of everything a process can see of itself (mappings and their flags, descriptors, status of
 * every thread, limits, timers, signal actions, ...), and pass() compares it with the state at the end, so a workload has
 * to check only what the snapshot cannot know.
 */
#ifndef FLOE_TEST_WORKLOAD_H
#define FLOE_TEST_WORKLOAD_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Keeps the snapshot and prints "ready". */
void ready(void);
/* Sleeps in small steps until the go file is there. */
void wait_for_go(void);
bool go_given(void);
/* Once go was given: did we die meanwhile? Else we only were frozen, or nothing happened at all. */
bool was_restored(void);
/* ... or may a relative sleep have been interrupted, because the peer took part, which always does that? */
bool was_interrupted(void);
/* Looks the go file up below this directory descriptor from now on (for workloads that change their root). */
void look_for_go_in(int directory, const char *name);

/* Prints what differs and remembers it; the workload goes on. Returns the condition. */
bool check(bool condition, const char *format, ...) __attribute__((format(printf, 2, 3)));
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Compares the snapshot, unless check_state() did already, prints PASS when nothing differed, exits with 0 or 1. */
_Noreturn void pass(void);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a child process: own snapshot, no PASS line, exit code 0 or 1. */
void keep_state(void);
void check_state(void);
_Noreturn void child_done(void);
/* Waits for a child that ends with child_done(). */
void child_passed(pid_t child);
/* How many checks of this process failed so far. */
unsigned differences_seen(void);

/* Ignore this kind of snapshot line, by prefix ("fd 7 ", "map 7f00"): the workload changes it on purpose. */
void snapshot_ignores(const char *prefix);

int64_t now_ms(void);
void sleep_ms(int ms);
/* The state letter of a task as in /proc/PID/stat, 0 when there is none. */
char task_state(pid_t tid);
/* Whether a task comes into a state: one that was let go a moment ago may be on its way there. */
bool comes_to(pid_t tid, char state);
/* Waits until the task sleeps (in a blocking call). */
void until_asleep(pid_t tid);
/* Waits until a process sleeps by sleep_ms() for the first time, as in wait_for_go(): what it did before is done then. */
void until_it_waits(pid_t pid);
pid_t gettid_now(void);
/* Whether /proc shows the pid namespace around ours, and the number that a task of ours has there (else the same one). */
bool proc_is_outer(void);
pid_t proc_number(pid_t tid);

#define must(call)                                                                                                     \
	({                                                                                                                 \
		__typeof__(call) must_result_ = (call);                                                                        \
		if ((long)must_result_ == -1)                                                                                  \
			fail("%s:%d: %s: %s", __FILE__, __LINE__, #call, strerror(errno));                                         \
		must_result_;                                                                                                  \
	})
/* For pthread functions, which return the error. */
#define must_zero(call)                                                                                                \
	({                                                                                                                 \
		int must_error_ = (call);                                                                                      \
		if (must_error_)                                                                                               \
			fail("%s:%d: %s: %s", __FILE__, __LINE__, #call, strerror(must_error_));                                   \
	})

/* Memory shared with children, for counters and flags. */
void *shared_memory(size_t bytes);
/* Fills and checks memory with a pattern that depends on the seed and the place. */
void fill_pattern(void *memory, size_t bytes, uint64_t seed);
bool check_pattern(const void *memory, size_t bytes, uint64_t seed, const char *what);

#endif
