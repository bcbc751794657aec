/*
 * BPF maps: what they are made with, their elements, which are frozen, who shares one. With "plain": a hash and an array. With
 * "ring": a map of a kind that is refused.
 */
#include <linux/bpf.h>

#include "workload.h"

enum { HASH, ARRAY, LRU, TRIE, EACH_CPU, FROZEN, EMPTY, MAPS, ENTRIES = 300, MAX_CPUS = 1024 };

struct key {
	uint32_t prefix, number;
};

static const struct {
	enum bpf_map_type type;
	uint32_t key, value, entries, flags;
	const char *name;
} shapes[MAPS] = {
	[HASH] = {BPF_MAP_TYPE_HASH, 8, 24, 1000, 0, "a_hash"},
	[ARRAY] = {BPF_MAP_TYPE_ARRAY, 4, 16, ENTRIES, BPF_F_MMAPABLE, "an_array"},
	[LRU] = {BPF_MAP_TYPE_LRU_HASH, 8, 16, 5000, 0, "lru"},
	[TRIE] = {BPF_MAP_TYPE_LPM_TRIE, 8, 16, 1000, BPF_F_NO_PREALLOC, "trie"},
	[EACH_CPU] = {BPF_MAP_TYPE_PERCPU_ARRAY, 4, 12, 5, 0, "each_cpu"},
	[FROZEN] = {BPF_MAP_TYPE_ARRAY, 4, 16, 3, BPF_F_RDONLY_PROG, "frozen"},
	[EMPTY] = {BPF_MAP_TYPE_HASH, 4, 4, 10, 0, ""},
};
static int maps[MAPS], same, read_only;
static uint64_t value[MAX_CPUS * 2], found[MAX_CPUS * 2];

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof *attr);
}

static int make(int which)
{
	union bpf_attr attr = {0};

	attr.map_type = shapes[which].type;
	attr.key_size = shapes[which].key;
	attr.value_size = shapes[which].value;
	attr.max_entries = shapes[which].entries;
	attr.map_flags = shapes[which].flags;
	strcpy(attr.map_name, shapes[which].name);
	return (int)must(bpf(BPF_MAP_CREATE, &attr));
}

static struct bpf_map_info info_of(int fd)
{
	struct bpf_map_info info = {0};
	union bpf_attr attr = {0};

	attr.info.bpf_fd = (uint32_t)fd;
	attr.info.info_len = sizeof info;
	attr.info.info = (uintptr_t)&info;
	must(bpf(BPF_OBJ_GET_INFO_BY_FD, &attr));
	return info;
}

static long element(int command, int fd, const void *key, void *data)
{
	union bpf_attr attr = {0};

	attr.map_fd = (uint32_t)fd;
	attr.key = (uintptr_t)key;
	attr.value = (uintptr_t)data;
	return bpf(command, &attr);
}

static int by_id(uint32_t id, uint32_t flags)
{
	union bpf_attr attr = {0};

	attr.map_id = id;
	attr.open_flags = flags;
	return (int)must(bpf(BPF_MAP_GET_FD_BY_ID, &attr));
}

/* Element `i` of a map: its key, and its value in `value`. */
static struct key element_of(int which, uint32_t i)
{
	size_t words = which == EACH_CPU ? MAX_CPUS * 2 : 3;
	struct key key = {i, 0};

	if (which == TRIE)
		key = (struct key){32, i << 8};
	else if (shapes[which].key == 8)
		key.number = ~i;
	for (size_t w = 0; w < words; w++)
		value[w] = which == EACH_CPU && w % 2 ? (uint32_t)(which * 1000003 + i * 7 + w) : which * 1000003 + i * 7 + w;
	return key;
}

static uint32_t elements(int which)
{
	return which == EMPTY ? 0 : shapes[which].entries < ENTRIES ? shapes[which].entries : ENTRIES;
}

static void check_map(int which)
{
	struct bpf_map_info info = info_of(maps[which]);
	uint8_t key[8], next[8];
	uint32_t count = 0;
	union bpf_attr attr = {0};

	check(info.type == shapes[which].type && info.key_size == shapes[which].key && info.value_size == shapes[which].value &&
	      info.max_entries == shapes[which].entries && info.map_flags == shapes[which].flags && !strcmp(info.name, shapes[which].name),
	      "map %d is another", which);
	attr.map_fd = (uint32_t)maps[which];
	attr.next_key = (uintptr_t)next;
	while (bpf(BPF_MAP_GET_NEXT_KEY, &attr) == 0) {
		memcpy(key, next, sizeof key);
		attr.key = (uintptr_t)key;
		count++;
	}
	check(count == elements(which), "map %d has %u elements", which, count);
	for (uint32_t i = 0; i < elements(which); i++) {
		struct key k = element_of(which, i);
		long cpus = sysconf(_SC_NPROCESSORS_CONF);

		if (element(BPF_MAP_LOOKUP_ELEM, maps[which], &k, found)) {
			check(false, "map %d has no element %u", which, i);
			continue;
		}
		if (which != EACH_CPU)
			check(!memcmp(found, value, shapes[which].value), "element %u of map %d is another", i, which);
		for (long c = 0; which == EACH_CPU && c < cpus; c++)
			check(!memcmp(found + 2 * c, value + 2 * c, 12), "element %u of processor %ld is another", i, c);
	}
}

static void ring(void)
{
	union bpf_attr attr = {0};

	attr.map_type = BPF_MAP_TYPE_RINGBUF;
	attr.max_entries = 4096;
	must(bpf(BPF_MAP_CREATE, &attr));
	ready();
	wait_for_go();
	pass();
}

int main(int argc, char **argv)
{
	union bpf_attr freeze = {0};
	bool plain = argc > 2 && !strcmp(argv[2], "plain");
	int count = plain ? ARRAY + 1 : MAPS;
	struct key k;

	if (argc > 2 && !strcmp(argv[2], "ring"))
		ring();
	for (int which = 0; which < count; which++) {
		maps[which] = make(which);
		for (uint32_t i = 0; i < elements(which); i++) {
			k = element_of(which, i);
			must(element(BPF_MAP_UPDATE_ELEM, maps[which], &k, value));
		}
	}
	if (!plain) {
		freeze.map_fd = (uint32_t)maps[FROZEN];
		must(bpf(BPF_MAP_FREEZE, &freeze));
		same = by_id(info_of(maps[HASH]).id, 0);
		read_only = by_id(info_of(maps[HASH]).id, BPF_F_RDONLY);
	}
	snapshot_ignores("fd ");
	ready();
	wait_for_go();
	for (int which = 0; which < count; which++)
		check_map(which);
	if (plain)
		pass();
	k = element_of(FROZEN, 0);
	check(element(BPF_MAP_UPDATE_ELEM, maps[FROZEN], &k, value) == -1 && errno == EPERM, "the frozen map can be changed");
	k = element_of(HASH, 0);
	check(element(BPF_MAP_UPDATE_ELEM, read_only, &k, value) == -1 && errno == EPERM, "the descriptor for reading can write");
	value[0] = 4711;
	must(element(BPF_MAP_UPDATE_ELEM, same, &k, value));
	must(element(BPF_MAP_LOOKUP_ELEM, read_only, &k, found));
	check(found[0] == 4711 && info_of(same).id == info_of(maps[HASH]).id, "the descriptors are of different maps");
	pass();
}
