/*
 * What the benchmark freezes and thaws: one kind of state, as much of it as asked for.
 *
 *   workload tiny|memory MIB|processes N|threads N|descriptors N|mappings N|writer MIB|increment MIB|relatives MIB|connections N
 *
 * Says "ready", waits for SIGTERM, checks that all of its state is as it was, and exits with 0 if so. At SIGUSR1 it says how
 * long it stood still at most: the longest time between two looks at the clock. At SIGUSR2 "increment" writes a page of each
 * hundred, and says "written".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define THREAD_STACK (64 * 1024)

static size_t amount;
static volatile int go;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static int alive;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double last, longest;

/* Looks at the clock: the longest time between two looks is how long we stood still. */
static void look(void)
{
	double now = now_ms();

	if (now - last > longest)
		longest = now - last;
	last = now;
}

static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
	last = now_ms();
}

/* Tells the longest gap since the last time when asked by SIGUSR1; whether SIGTERM has come. */
static int is_over(void)
{
	struct timespec at_once = { 0, 0 };
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	signal = sigtimedwait(&set, NULL, &at_once);
	if (signal == SIGUSR1) {
		printf("gap %.3f ms\n", longest);
		fflush(stdout);
		longest = 0;
	}
	return signal == SIGTERM;
}

static void wait_for_term(void)
{
	struct timespec nap = { 0, 50000 };

	say_ready();
	do {
		nanosleep(&nap, NULL);
		look();
	} while (!is_over());
}

/* Contents that neither compress nor repeat: every word is its own. */
static uint64_t word_at(size_t index)
{
	uint64_t x = index * 0x9e3779b97f4a7c15ULL + 1;

	x ^= x >> 29;
	return x * 0xbf58476d1ce4e5b9ULL;
}

static int memory(void)
{
	size_t words = amount * 1024 * 1024 / sizeof(uint64_t);
	uint64_t *memory = mmap(NULL, words * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < words; i++)
		memory[i] = word_at(i);
	wait_for_term();
	for (size_t i = 0; i < words; i++)
		if (memory[i] != word_at(i))
			return 1;
	return 0;
}

static int processes(void)
{
	pid_t *children = calloc(amount, sizeof(*children));
	int status, bad = 0;

	for (size_t i = 0; i < amount; i++) {
		children[i] = fork();
		if (children[i] < 0)
			die("fork");
		if (children[i] == 0) {
			sigset_t set;
			int signal;

			sigemptyset(&set);
			sigaddset(&set, SIGTERM);
			sigwait(&set, &signal);
			_exit(7);
		}
	}
	wait_for_term();
	for (size_t i = 0; i < amount; i++) {
		kill(children[i], SIGTERM);
		if (waitpid(children[i], &status, 0) != children[i] || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
			bad = 1;
	}
	return bad;
}

static void *thread(void *unused)
{
	pthread_mutex_lock(&lock);
	alive++;
	while (!go)
		pthread_cond_wait(&wake, &lock);
	alive--;
	pthread_mutex_unlock(&lock);
	return unused;
}

static int threads(void)
{
	pthread_t *ids = calloc(amount, sizeof(*ids));
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK);
	for (size_t i = 0; i < amount; i++)
		if (pthread_create(&ids[i], &attributes, thread, NULL) != 0)
			die("pthread_create");
	while (__atomic_load_n(&alive, __ATOMIC_SEQ_CST) < (int)amount)
		usleep(1000);
	wait_for_term();
	pthread_mutex_lock(&lock);
	go = 1;
	pthread_cond_broadcast(&wake);
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < amount; i++)
		pthread_join(ids[i], NULL);
	return alive != 0;
}

static int descriptors(void)
{
	struct rlimit limit = { amount + 64, amount + 64 };
	int *fds = calloc(amount, sizeof(*fds));

	/* Without the right to raise it the limit may be high enough already. */
	setrlimit(RLIMIT_NOFILE, &limit);
	for (size_t i = 0; i < amount; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file-%zu", i % 100);
		fds[i] = open(name, O_RDWR | O_CREAT, 0600);
		if (fds[i] < 0 || lseek(fds[i], (off_t)i, SEEK_SET) != (off_t)i)
			die(name);
	}
	wait_for_term();
	for (size_t i = 0; i < amount; i++)
		if (lseek(fds[i], 0, SEEK_CUR) != (off_t)i)
			return 1;
	return 0;
}

/* Neighbours differ in what they allow, so that the kernel keeps them apart. */
static int mappings(void)
{
	char **places = calloc(amount, sizeof(*places));

	for (size_t i = 0; i < amount; i++) {
		places[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (places[i] == MAP_FAILED)
			die("mmap");
		*(uint64_t *)places[i] = word_at(i);
		if (i % 2 && mprotect(places[i], PAGE, PROT_READ) != 0)
			die("mprotect");
	}
	wait_for_term();
	for (size_t i = 0; i < amount; i++)
		if (*(uint64_t *)places[i] != word_at(i))
			return 1;
	return 0;
}

/* Writes 20 000 pages in a second, here and there, and tells the longest time between two looks at the clock. */
static int writer(void)
{
	size_t pages = amount * 1024 * 1024 / PAGE;
	uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *written = calloc(pages, sizeof(*written));
	struct timespec nap = { 0, 1000000 };
	uint64_t random = 1;

	if (memory == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < pages; i++)
		memory[i * WORDS] = i;
	say_ready();
	do {
		for (int k = 0; k < 20; k++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			size_t i = (random >> 33) % pages;
			memory[i * WORDS + 1] = ++written[i];
		}
		nanosleep(&nap, NULL);
		look();
	} while (!is_over());
	for (size_t i = 0; i < pages; i++)
		if (memory[i * WORDS] != i || memory[i * WORDS + 1] != written[i])
			return 1;
	return 0;
}

/* Writes one page of each hundred when it is asked to. */
static int increment(void)
{
	size_t pages = amount * 1024 * 1024 / PAGE;
	uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timespec nap = { 0, 50000 };
	uint64_t turn = 0;

	if (memory == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < pages * WORDS; i++)
		memory[i] = word_at(i);
	say_ready();
	do {
		sigset_t set;
		struct timespec at_once = { 0, 0 };

		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		if (sigtimedwait(&set, NULL, &at_once) == SIGUSR2) {
			turn++;
			for (size_t i = 0; i < pages; i += 100)
				memory[i * WORDS] = word_at(i * WORDS) + turn;
			puts("written");
			fflush(stdout);
			last = now_ms();
		}
		nanosleep(&nap, NULL);
		look();
	} while (!is_over());
	for (size_t i = 0; i < pages * WORDS; i++)
		if (memory[i] != word_at(i) + (i % (100 * WORDS) == 0 ? turn : 0))
			return 1;
	return 0;
}

/* Memory that eight children have in common with their parent since they were forked. */
static int relatives(void)
{
	size_t words = amount * 1024 * 1024 / sizeof(uint64_t);
	uint64_t *memory = mmap(NULL, words * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int bad;

	if (memory == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < words; i++)
		memory[i] = word_at(i);
	amount = 8;
	bad = processes();
	for (size_t i = 0; i < words; i++)
		if (memory[i] != word_at(i))
			return 1;
	return bad;
}

/* The network of a fresh namespace is down. */
static void start_network(int fd)
{
	struct ifreq request = { .ifr_name = "lo" };

	if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
		die("SIOCGIFFLAGS");
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		die("SIOCSIFFLAGS");
}

/* The other ends: says what it hears on each connection, until all are closed. */
static void answer(const struct sockaddr_in *to)
{
	struct pollfd *ends = calloc(amount, sizeof(*ends));
	size_t left = amount;
	char bytes[64];

	for (size_t i = 0; i < amount; i++) {
		ends[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		ends[i].events = POLLIN;
		if (connect(ends[i].fd, (const struct sockaddr *)to, sizeof(*to)) != 0)
			die("connect");
	}
	while (left > 0 && poll(ends, amount, -1) > 0)
		for (size_t i = 0; i < amount; i++) {
			if (ends[i].revents == 0)
				continue;
			ssize_t got = read(ends[i].fd, bytes, sizeof(bytes));
			if (got > 0 && write(ends[i].fd, bytes, (size_t)got) == got)
				continue;
			close(ends[i].fd);
			ends[i].fd = -1;
			left--;
		}
	_exit(0);
}

/* Connections to a process outside of the tree. */
static int connections(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct rlimit limit = { amount + 64, amount + 64 };
	socklen_t length = sizeof(address);
	int *fds = calloc(amount, sizeof(*fds));
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	pid_t child;

	setrlimit(RLIMIT_NOFILE, &limit);
	start_network(listener);
	if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 4096) != 0)
		die("listen");
	getsockname(listener, (struct sockaddr *)&address, &length);
	child = fork();
	if (child == 0) {
		close(listener);
		if (setsid() < 0 || fork() != 0)
			_exit(0);
		answer(&address);
	}
	waitpid(child, NULL, 0);
	for (size_t i = 0; i < amount; i++) {
		fds[i] = accept(listener, NULL, NULL);
		if (fds[i] < 0)
			die("accept");
	}
	close(listener);
	wait_for_term();
	for (size_t i = 0; i < amount; i++) {
		uint64_t word = word_at(i), heard = 0;

		if (write(fds[i], &word, sizeof(word)) != sizeof(word) || read(fds[i], &heard, sizeof(heard)) != sizeof(heard) || heard != word)
			return 1;
	}
	return 0;
}

static int tiny(void)
{
	wait_for_term();
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} kinds[] = {
		{ "tiny", tiny }, { "memory", memory }, { "processes", processes }, { "threads", threads }, { "descriptors", descriptors },
		{ "mappings", mappings }, { "writer", writer },
		{ "increment", increment }, { "relatives", relatives }, { "connections", connections },
	};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (argc > 2)
		amount = strtoul(argv[2], NULL, 10);
	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(argv[1], kinds[i].name) == 0)
			return kinds[i].run();
	fputs("usage: workload tiny|memory|processes|threads|descriptors|mappings|writer|increment|relatives|connections AMOUNT\n", stderr);
	return 2;
}
