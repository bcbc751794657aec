/* What tiles.ts puts into a thread that has to use a tile once; at `next` the address where it goes on. */
	lea	config(%rip), %rdi
	ldtilecfg (%rdi)
	tilezero %tmm0
	tilerelease
	jmp	*next(%rip)
next:	.quad	0
	.balign	64, 0
config:	.byte	1
	.zero	15
	.word	16
	.zero	30
	.byte	1
	.zero	15
