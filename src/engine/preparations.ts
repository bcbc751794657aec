/**
 * What takes long when it is done first, such as a look at the kernel's memory, and can be done before the freeze: for what the tree has.
 */
import { prepareKernelLog } from "../resources/files/kernel-log.js";
import { prepareNotices } from "../resources/files/notices.js";
import { prepareIpc } from "../resources/ipc/own.js";
import { prepareContexts } from "../resources/memory/aio-waiting.js";
import { prepareLook } from "../resources/sockets/unseen.js";
import { prepareRestarts } from "../resources/tasks/restart-block.js";
import { prepareTimers } from "../resources/timers/posix-timers.js";
import { prepareTerminals } from "../resources/ttys/queues.js";
import { prepareQueues } from "../resources/watches/inotify.js";
import type { DumpOptions } from "./options.js";

/** `hearsOfLooks`: the tree is told when somebody opens its files. */
export function getReady(
  pids: readonly number[],
  options: Pick<DumpOptions, "leaveRunning" | "leaveStopped" | "stream"> & { readonly hearsOfLooks: boolean },
): void {
  prepareLook(pids);
  prepareContexts(pids);
  // Of a tree that dies the queues are read, when it is dead.
  if (options.leaveRunning || options.leaveStopped || options.stream !== undefined) prepareQueues(pids);
  prepareNotices(pids, options.hearsOfLooks);
  prepareKernelLog(pids);
  prepareTerminals(pids);
  prepareRestarts(pids);
  prepareTimers(pids);
  prepareIpc(pids);
}
