/* The smallest task: nothing but what every process has. */
#include "workload.h"

int main(void)
{
	ready();
	wait_for_go();
	pass();
}
