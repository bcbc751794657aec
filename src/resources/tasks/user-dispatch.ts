/**
 * Syscall user dispatch, prctl(PR_SET_SYSCALL_USER_DISPATCH): system calls of a thread that become SIGSYS.
 *
 * Read from   PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, when the thread is frozen
 * Made with   PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, as the last thing of all
 *
 * It would hit the calls that we make inside the thread, so it is off from right before the thread is set to the stub until right after it has
 * its own registers back. Should the dumper be killed meanwhile, the stub's tail switches it on by its very last call (target/x86_64/stub.S).
 * That comes after the signal mask: a handler for a signal that waited runs without it.
 *
 * Not covered are the instants between two calls of ptrace at both ends, and a main thread that has it while it is in the cave, which has no room
 * for another call: there is no order of switching and setting registers in which neither the stub's calls are hit (with all
 * signals blocked, which kills) nor the thread goes on without it.
 */
import type { UserDispatch } from "../../linux/ptrace.js";
import type { ThreadPart } from "../part.js";
import type { CoreEntry } from "./core.schema.js";

/** What the last step of a restore has to switch on. */
export function savedDispatch(core: CoreEntry): UserDispatch | undefined {
  const saved = core.thread_core?.user_dispatch;
  return saved === undefined ? undefined : { selector: saved.selector, offset: saved.offset, length: saved.len };
}

export const userDispatch: ThreadPart = {
  name: "tasks/user-dispatch",
  rows: [],
  stage: "last",
  dump({ thread, core }) {
    const found = thread.userDispatch;
    if (found !== undefined && core.thread_core !== undefined) {
      core.thread_core.user_dispatch = { selector: found.selector, offset: found.offset, len: found.length };
    }
    return undefined;
  },
};
