/*
 * What a lane executes: void *lane(struct { u64 *control; u64 area; u64 *groups; } *)
 *
 * control: u64 next group, u64 number of groups; shared by all lanes.
 * groups:  addresses of the first calls of the groups; lanes may have different tables.
 * call:    72 bytes: function, six arguments, word of flags (bit n: argument n is relative to the lane's area), result.
 * A group ends with a call whose function is 0, or after a call whose result is negative.
 */
	push	%rbx
	push	%r15
	push	%r12
	push	%r13
	push	%r14
	mov	(%rdi), %r12
	mov	8(%rdi), %r13
	mov	16(%rdi), %r15
next:	mov	$1, %eax
	lock xadd %rax, (%r12)
	cmp	8(%r12), %rax
	jae	done
	mov	(%r15,%rax,8), %rbx
call:	cmpq	$0, (%rbx)
	je	next
	mov	56(%rbx), %r14
	mov	8(%rbx), %rdi
	test	$1, %r14b
	jz	1f
	add	%r13, %rdi
1:	mov	16(%rbx), %rsi
	test	$2, %r14b
	jz	1f
	add	%r13, %rsi
1:	mov	24(%rbx), %rdx
	test	$4, %r14b
	jz	1f
	add	%r13, %rdx
1:	mov	32(%rbx), %rcx
	test	$8, %r14b
	jz	1f
	add	%r13, %rcx
1:	mov	40(%rbx), %r8
	test	$16, %r14b
	jz	1f
	add	%r13, %r8
1:	mov	48(%rbx), %r9
	test	$32, %r14b
	jz	1f
	add	%r13, %r9
1:	xor	%eax, %eax
	call	*(%rbx)
	mov	%rax, 64(%rbx)
	add	$72, %rbx
	test	%rax, %rax
	jns	call
	jmp	next
done:	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r15
	pop	%rbx
	xor	%eax, %eax
	ret
