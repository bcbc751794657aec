/*
 * Sixteen threads, each with its own thread-local values, name, signal mask, alternate stack and nice value; they share
 * memory, descriptors and handlers, and go on to use mutex, condition variable, barrier and semaphore together.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/resource.h>

#include "workload.h"

enum { THREADS = 16, ROUNDS = 200 };

static _Thread_local uint64_t plain_local, filled_local[64] = {1, 2, 3};
static pthread_key_t key;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static int turn;
static pid_t tids[THREADS];
static volatile int came_up;
static volatile bool go_on;

static uint64_t own_mask(int which)
{
	return 1ull << (SIGUSR1 - 1) | 1ull << (32 + which);
}

static void dress(int which, char *alt)
{
	stack_t stack = {.ss_sp = alt, .ss_size = 16384};
	uint64_t mask = own_mask(which);
	char name[16];

	plain_local = 0x1000u + (unsigned)which;
	for (int i = 0; i < 64; i++)
		filled_local[i] = (uint64_t)which * 100 + (uint64_t)i;
	pthread_setspecific(key, (void *)(0x5000L + which));
	snprintf(name, sizeof name, "thread-%d \"x\"", which);
	must(prctl(PR_SET_NAME, name));
	must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8));
	must(sigaltstack(&stack, NULL));
	must(setpriority(PRIO_PROCESS, (id_t)gettid_now(), which % 8));
}

static void check_dress(int which, const char *alt)
{
	stack_t stack;
	uint64_t mask = 0;
	char name[17] = "", wanted[16];
	uint32_t *tid_address = NULL;

	check(plain_local == 0x1000u + (unsigned)which, "thread %d: thread-local %#lx", which, (long)plain_local);
	for (int i = 0; i < 64; i++)
		check(filled_local[i] == (uint64_t)which * 100 + (uint64_t)i, "thread %d: thread-local [%d] is %ld", which, i, (long)filled_local[i]);
	check(pthread_getspecific(key) == (void *)(0x5000L + which), "thread %d: pthread_getspecific", which);
	snprintf(wanted, sizeof wanted, "thread-%d \"x\"", which);
	prctl(PR_GET_NAME, name);
	check(!strcmp(name, wanted), "thread %d is called %s", which, name);
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	check(mask == own_mask(which), "thread %d: signal mask %#lx, was %#lx", which, (long)mask, (long)own_mask(which));
	sigaltstack(NULL, &stack);
	check(stack.ss_sp == alt && stack.ss_size == 16384 && stack.ss_flags == 0, "thread %d: alternate stack %p %zu %x", which, stack.ss_sp,
		stack.ss_size, stack.ss_flags);
	check(gettid_now() == tids[which], "thread %d: tid %d, was %d", which, gettid_now(), tids[which]);
	check(getpriority(PRIO_PROCESS, (id_t)gettid_now()) == which % 8, "thread %d: nice value", which);
	prctl(PR_GET_TID_ADDRESS, &tid_address, 0, 0, 0);
	check(tid_address && *tid_address == (uint32_t)gettid_now(), "thread %d: the tid address does not hold its tid", which);
}

static void take_turns(int which)
{
	for (int round = 0; round < ROUNDS; round++) {
		pthread_mutex_lock(&lock);
		while (turn % THREADS != which)
			pthread_cond_wait(&changed, &lock);
		turn++;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	sem_post(&semaphore);
}

static void *body(void *argument)
{
	int which = (int)(long)argument;
	char *alt = malloc(16384);

	tids[which] = gettid_now();
	dress(which, alt);
	pthread_barrier_wait(&barrier);
	__atomic_add_fetch(&came_up, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&lock);
	while (!go_on)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	check_dress(which, alt);
	take_turns(which);
	return (void *)(long)(which * 3);
}

int main(void)
{
	pthread_t threads[THREADS];

	must_zero(pthread_key_create(&key, NULL));
	must_zero(pthread_barrier_init(&barrier, NULL, THREADS));
	must(sem_init(&semaphore, 0, 0));
	for (long i = 0; i < THREADS; i++)
		must_zero(pthread_create(&threads[i], NULL, body, (void *)i));
	while (came_up < THREADS)
		sleep_ms(1);
	for (int i = 0; i < THREADS; i++)
		until_asleep(tids[i]);
	ready();
	wait_for_go();
	check_state();
	pthread_mutex_lock(&lock);
	go_on = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < THREADS; i++)
		sem_wait(&semaphore);
	check(turn == THREADS * ROUNDS, "%d turns were taken, not %d", turn, THREADS * ROUNDS);
	for (int i = 0; i < THREADS; i++) {
		void *result = NULL;
		must_zero(pthread_join(threads[i], &result));
		check((long)result == i * 3, "thread %d ended with %ld", i, (long)result);
	}
	pass();
}
