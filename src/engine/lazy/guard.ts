/**
 * A guard over the process that fills memory: should that one be killed, the kernel would fill in zeros, unless somebody else
 * still has the userfaultfds. The guard has them, and ends the processes: their images are still there, zeros would spread.
 *
 * It is a shell that waits at a pipe whose other end only the filler has. A word through it means that all is well; its end
 * without a word, that the filler is gone.
 *
 * A process that a restored one forks has a userfaultfd of its own, which the filler gets from the kernel. It passes it on into a
 * socket whose other end the guard has: nobody takes it out there, and as long as it lies there it is open. The guard finds these
 * processes as descendants. While it does, no new ones come: whoever forks waits for the filler.
 */
import { closeSync } from "node:fs";
import { AF_UNIX } from "../../linux/addresses.js";
import { kernelError } from "../../linux/errno.js";
import { setDescriptorFlags } from "../../linux/fcntl.js";
import { O_CLOEXEC } from "../../linux/files.js";
import { posixSpawn } from "../../linux/ffi/native.unsafe.js";
import { pipe2 } from "../../linux/pipes.js";
import { readStat } from "../../linux/proc/read.js";
import { SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, socketpair } from "../../linux/sockets.js";

const FD_CLOEXEC = 1;
const SHELL = "/bin/sh";
export const ALL_IS_WELL = "done\n";

/** Arguments: the pipe, then PID:START of each process. A pid that somebody else has by now has another start time. */
const SCRIPT = `
trap "" HUP INT QUIT TERM
pipe=$1; shift
if read -r word <"$pipe"; then exit 0; fi
all=
below() {
  all="$all $1"
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do below "$child"; done
}
for one; do
  pid=\${one%%:*}
  read -r line <"/proc/$pid/stat" || continue
  line=\${line##*) }
  start=$(set -- $line; echo "\${20}")
  [ "$start" = "\${one#*:}" ] && below "$pid"
done
[ -n "$all" ] && kill -9 $all
`;

/** What the filler is given of a guard. */
export interface GuardEnds {
  /** For the word that all is well. */
  readonly pipe: number;
  /** For userfaultfds of processes that were forked since. */
  readonly shelf: number;
}

/** Starts a guard over `pids`; returns the ends that are for the filler. */
export function startGuard(pids: readonly number[], uffds: readonly number[]): GuardEnds {
  const { readEnd, writeEnd } = pipe2(O_CLOEXEC);
  const [shelf, kept] = socketpair({ family: AF_UNIX, type: SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC });
  const inherited = [readEnd, kept, ...uffds];
  try {
    for (const fd of inherited) setDescriptorFlags(fd, 0);
    const who = pids.map((pid) => `${pid}:${readStat(pid).startTimeTicks}`);
    const pid = posixSpawn(SHELL, ["sh", "-c", SCRIPT, "floe-guard", `/proc/self/fd/${readEnd}`, ...who], []);
    if (pid < 0) throw kernelError(`posix_spawn(${SHELL})`, pid);
    return { pipe: writeEnd, shelf };
  } catch (error) {
    closeSync(writeEnd);
    closeSync(shelf);
    throw error;
  } finally {
    for (const fd of uffds) setDescriptorFlags(fd, FD_CLOEXEC);
    closeSync(readEnd);
    closeSync(kept);
  }
}
