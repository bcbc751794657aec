/* NUMA memory policies: each thread has its own. */
#include <linux/mempolicy.h>
#include <pthread.h>

#include "workload.h"

#ifndef MPOL_F_STATIC_NODES
#define MPOL_F_STATIC_NODES (1 << 15)
#endif

enum { BITS = 1024 };

struct policy {
	int mode;
	unsigned long nodes[BITS / 64];
};

static void look(struct policy *policy)
{
	memset(policy, 0, sizeof *policy);
	must(syscall(SYS_get_mempolicy, &policy->mode, policy->nodes, BITS, NULL, 0));
}

static void expect(int mode, unsigned long nodes, const char *who)
{
	struct policy now;

	look(&now);
	check(now.mode == mode, "%s: policy %#x instead of %#x", who, now.mode, mode);
	check(now.nodes[0] == nodes, "%s: nodes %#lx instead of %#lx", who, now.nodes[0], nodes);
}

static volatile int is_set, go_on;

static void *other(void *unused)
{
	unsigned long nodes[BITS / 64] = {1};

	(void)unused;
	must(syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, nodes, BITS));
	is_set = 1;
	while (!go_on)
		sleep_ms(2);
	expect(MPOL_INTERLEAVE, 1, "thread");
	return NULL;
}

static void *plain(void *unused)
{
	(void)unused;
	must(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0));
	is_set = 1;
	while (!go_on)
		sleep_ms(2);
	expect(MPOL_DEFAULT, 0, "thread without policy");
	return NULL;
}

int main(void)
{
	unsigned long nodes[BITS / 64] = {1};
	pthread_t threads[2];

	if (syscall(SYS_set_mempolicy, MPOL_BIND | MPOL_F_STATIC_NODES, nodes, BITS)) {
		note("this kernel takes no NUMA policies");
		ready();
		wait_for_go();
		pass();
	}
	must_zero(pthread_create(&threads[0], NULL, other, NULL));
	while (!is_set)
		sleep_ms(1);
	is_set = 0;
	must_zero(pthread_create(&threads[1], NULL, plain, NULL));
	while (!is_set)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	expect(MPOL_BIND | MPOL_F_STATIC_NODES, 1, "leader");
	go_on = 1;
	for (int i = 0; i < 2; i++)
		must_zero(pthread_join(threads[i], NULL));
	pass();
}
