/*
 * Waiters on futexes of every kind are woken after the freeze, and a robust mutex tells of the death of its owner, be it
 * a thread or a process, though the list head was registered before.
 */
#include <linux/futex.h>
#include <pthread.h>

#include "workload.h"

struct shared {
	pthread_mutex_t robust, robust_thread, normal, inheriting;
	volatile uint32_t word;
	volatile pid_t waiter;
	volatile int woken;
};

static struct shared *s;
static volatile bool die;

static void init_mutex(pthread_mutex_t *mutex, int robust, int protocol)
{
	pthread_mutexattr_t attributes;

	must_zero(pthread_mutexattr_init(&attributes));
	must_zero(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
	must_zero(pthread_mutexattr_setrobust(&attributes, robust));
	must_zero(pthread_mutexattr_setprotocol(&attributes, protocol));
	must_zero(pthread_mutex_init(mutex, &attributes));
}

static void owner(void)
{
	must_zero(pthread_mutex_lock(&s->robust));
	keep_state();
	s->waiter = getpid();
	wait_for_go();
	check_state();
	/* Dies with the mutex locked. */
	_exit(differences_seen() ? 1 : 0);
}

static void *dying_thread(void *unused)
{
	must_zero(pthread_mutex_lock(&s->robust_thread));
	while (!die)
		sleep_ms(2);
	return unused;
}

static void *locker(void *mutex)
{
	must_zero(pthread_mutex_lock(mutex));
	__atomic_add_fetch(&s->woken, 1, __ATOMIC_SEQ_CST);
	must_zero(pthread_mutex_unlock(mutex));
	return NULL;
}

static void *bits_waiter(void *unused)
{
	long result = syscall(SYS_futex, &s->word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0x10);

	check(result == 0, "FUTEX_WAIT_BITSET: %s", strerror(errno));
	__atomic_add_fetch(&s->woken, 1, __ATOMIC_SEQ_CST);
	return unused;
}

static void waiting_child(void)
{
	long result;

	keep_state();
	result = syscall(SYS_futex, &s->word, FUTEX_WAIT, 0, NULL, NULL, 0);
	check(result == 0, "FUTEX_WAIT in the child: %s", strerror(errno));
	check(s->word == 1, "the child was woken with the word at %u", s->word);
	child_done();
}

int main(void)
{
	pthread_t dying, normal, inheriting, bits;
	pid_t holder, waiter;
	int result;

	s = shared_memory(sizeof *s);
	init_mutex(&s->robust, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	init_mutex(&s->robust_thread, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	init_mutex(&s->normal, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
	init_mutex(&s->inheriting, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
	if ((holder = must(fork())) == 0)
		owner();
	if ((waiter = must(fork())) == 0)
		waiting_child();
	while (!s->waiter)
		sleep_ms(1);
	must_zero(pthread_mutex_lock(&s->normal));
	must_zero(pthread_mutex_lock(&s->inheriting));
	must_zero(pthread_create(&dying, NULL, dying_thread, NULL));
	must_zero(pthread_create(&normal, NULL, locker, &s->normal));
	must_zero(pthread_create(&inheriting, NULL, locker, &s->inheriting));
	must_zero(pthread_create(&bits, NULL, bits_waiter, NULL));
	until_asleep(waiter);
	sleep_ms(30);
	ready();
	wait_for_go();
	check_state();
	check(s->woken == 0, "%d waiters were woken too early", s->woken);
	child_passed(holder);
	result = pthread_mutex_lock(&s->robust);
	check(result == EOWNERDEAD, "a robust mutex of a dead process: %s", strerror(result));
	die = true;
	must_zero(pthread_join(dying, NULL));
	result = pthread_mutex_lock(&s->robust_thread);
	check(result == EOWNERDEAD, "a robust mutex of a dead thread: %s", strerror(result));
	must_zero(pthread_mutex_unlock(&s->normal));
	must_zero(pthread_mutex_unlock(&s->inheriting));
	must_zero(pthread_join(normal, NULL));
	must_zero(pthread_join(inheriting, NULL));
	s->word = 1;
	check(syscall(SYS_futex, &s->word, FUTEX_WAKE_BITSET, 10, NULL, NULL, 0x20) == 1, "the plain waiter did not wait");
	check(syscall(SYS_futex, &s->word, FUTEX_WAKE_BITSET, 10, NULL, NULL, 0x10) == 1, "the waiter with bits did not wait");
	must_zero(pthread_join(bits, NULL));
	child_passed(waiter);
	pass();
}
