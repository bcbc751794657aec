/* Everything a process can see of itself, as lines of text that can be compared; used through workload.h. */
#ifndef FLOE_TEST_SNAPSHOT_H
#define FLOE_TEST_SNAPSHOT_H

void snapshot_keep(void);
/* Prints lines that were lost or are new; returns how many. */
unsigned snapshot_compare(void);

/* The numbers that are names in a directory, without using memory of its own; returns how many. */
unsigned list_numbers(const char *path, int *numbers, unsigned room);

#endif
