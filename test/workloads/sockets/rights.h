/*
 * Messages with descriptors (SCM_RIGHTS), and what has to come out of a socket.
 */
#ifndef FLOE_TEST_RIGHTS_H
#define FLOE_TEST_RIGHTS_H

#include "sockets.h"

static void send_fds(int fd, const char *text, const int *fds, int count)
{
	char control[CMSG_SPACE(sizeof(int) * 8)] = {0};
	struct iovec vector = {(void *)text, strlen(text)};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
	memcpy(CMSG_DATA(head), fds, sizeof(int) * (size_t)count);
	must(sendmsg(fd, &message, 0));
}

/* Receives up to `room` bytes; the text and the number of descriptors must be these. */
static void receive_fds(int fd, size_t room, const char *text, int *fds, int count)
{
	char control[CMSG_SPACE(sizeof(int) * 8)] = {0}, got[100] = "";
	struct iovec vector = {got, room};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	int there = head == NULL ? 0 : (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));

	check(length == (ssize_t)strlen(text) && !strcmp(got, text), "fd %d: got \"%s\" (%zd), not \"%s\"", fd, got, length, text);
	check(there == count, "\"%s\" brings %d descriptors, not %d", text, there, count);
	if (there > 0 && fds != NULL)
		memcpy(fds, CMSG_DATA(head), sizeof(int) * (size_t)(there < count ? there : count));
}

#endif
