/*
 * Names whose nodes were moved, as servers do that make a socket beside its place and rename it: by absolute and relative names, from
 * directories that were left or are gone, over the node of an older socket, and with the old name taken again.
 */
#include "sockets.h"

static int server(int type, const char *name, const char *to)
{
	int fd = type == SOCK_DGRAM ? unix_bound(type, name) : unix_listening(type, name, 3);

	must(rename(name, to));
	return fd;
}

int main(int argc, char **argv)
{
	char path[200], absolute[300], place[300];
	int old, new, client, old_end, taken, above, gone, dgram, sender, end;
	struct stat st;

	begin(argc, argv);
	must(getcwd(path, sizeof path) ? 0 : -1);
	snprintf(absolute, sizeof absolute, "%s/server.1.tmp", path);
	snprintf(place, sizeof place, "%s/server", path);
	old = server(SOCK_STREAM, absolute, place);
	client = unix_client(SOCK_STREAM, place);
	old_end = must(accept(old, NULL, NULL));
	new = server(SOCK_STREAM, absolute, place);
	must(chmod(place, 0640));
	taken = unix_listening(SOCK_STREAM, absolute, 3);
	must(mkdir("one", 0755));
	must(mkdir("two", 0755));
	must(chdir("one"));
	above = server(SOCK_SEQPACKET, "../two/above", "../two/moved");
	must(chdir(path));
	must(rmdir("one"));
	must(mkdir("three", 0755));
	gone = server(SOCK_STREAM, "three/tmp", "three/place");
	must(unlink("three/place"));
	must(rmdir("three"));
	dgram = server(SOCK_DGRAM, "./hub.tmp", "hub");
	sender = unix_bound(SOCK_DGRAM, "sender");
	must(rename("sender", "sender.moved"));
	must(unix_connect(sender, "hub"));
	send_text(sender, "queued");
	ready();
	wait_for_go();
	check_state();
	expect_names(old, absolute, "-");
	expect_names(old_end, absolute, "");
	expect_names(client, "", absolute);
	expect_talk(client, old_end);
	expect_names(new, absolute, "-");
	expect_names(taken, absolute, "-");
	expect_names(above, "../two/above", "-");
	expect_names(gone, "three/tmp", "-");
	expect_names(dgram, "./hub.tmp", "-");
	expect_names(sender, "sender", "./hub.tmp");
	must(stat(place, &st));
	check((st.st_mode & 0777) == 0640, "the node has the mode %o", st.st_mode);
	client = unix_client(SOCK_STREAM, place);
	end = must(accept(new, NULL, NULL));
	expect_talk(client, end);
	client = unix_client(SOCK_STREAM, absolute);
	end = must(accept(taken, NULL, NULL));
	expect_talk(client, end);
	client = unix_client(SOCK_SEQPACKET, "two/moved");
	end = must(accept(above, NULL, NULL));
	expect_talk(client, end);
	expect_text(dgram, "queued");
	send_text(sender, "more");
	expect_text(dgram, "more");
	client = unix_socket(SOCK_DGRAM);
	check(unix_connect(client, "sender.moved") == -1 && errno == EPERM, "a stranger gets at a connected socket (errno %d)", errno);
	check(access("one", F_OK) && access("three", F_OK) && access("hub.tmp", F_OK), "something is back that was gone");
	pass();
}
