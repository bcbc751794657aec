/*
 * Two functions for lanes (page-functions.ts), by the processor's CRC-32C.
 *
 * checksum(bytes, length): the CRC-32C of bytes.
 * hash(pages, count, out):  for each page of 4 KiB two CRCs, of its even and of its odd words, as eight bytes.
 */
checksum:
	mov	$-1, %eax
	mov	%rsi, %rcx
	shr	$3, %rcx
	jz	2f
1:	crc32q	(%rdi), %rax
	add	$8, %rdi
	dec	%rcx
	jnz	1b
2:	and	$7, %esi
	jz	4f
3:	crc32b	(%rdi), %eax
	inc	%rdi
	dec	%esi
	jnz	3b
4:	not	%eax
	ret
	.balign	16
hash:	test	%rsi, %rsi
	jz	3f
1:	mov	$-1, %eax
	mov	$1, %ecx
	mov	$256, %r8d
2:	crc32q	(%rdi), %rax
	crc32q	8(%rdi), %rcx
	add	$16, %rdi
	dec	%r8d
	jnz	2b
	mov	%eax, (%rdx)
	mov	%ecx, 4(%rdx)
	add	$8, %rdx
	dec	%rsi
	jnz	1b
3:	xor	%eax, %eax
	ret
