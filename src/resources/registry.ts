/**
 * Everything that Floe carries, in the order in which it is restored.
 */
import { bpfMaps } from "./devices/bpf-map.js";
import { epolls } from "./events/epoll.js";
import { eventfds } from "./events/eventfd.js";
import { pidfds } from "./events/pidfd.js";
import { ioUrings } from "./events/io-uring.js";
import { userfaultfds } from "./events/userfaultfd.js";
import { semaphoreUndo } from "./ipc/sem.js";
import { fileLocks } from "./files/locks.js";
import { directoryNotices } from "./files/notices.js";
import { regularFiles } from "./files/regular.js";
import { memfds } from "./memory/memfd.js";
import { secretMemoryFiles } from "./memory/secret.js";
import { addressSpace } from "./memory/mappings.js";
import { memoryPolicy } from "./memory/numa.js";
import { namespaceFiles } from "./namespaces/nsfile.js";
import type { FileKind, ThreadPart } from "./part.js";
import { fifos } from "./pipes/fifo.js";
import { pipes } from "./pipes/pipe.js";
import { inetSockets } from "./sockets/inet.js";
import { netlinkSockets } from "./sockets/netlink.js";
import { otherSockets } from "./sockets/other.js";
import { packetKind } from "./sockets/packet.js";
import { unixSocketKind } from "./sockets/unix.js";
import { lsmLabels } from "./security/lsm.js";
import { seccomp, sharedSeccomp } from "./security/seccomp.js";
import { actions } from "./signals/actions.js";
import { altstack } from "./signals/altstack.js";
import { pending } from "./signals/pending.js";
import { signalfds } from "./signals/signalfd.js";
import {
  childSubreaper,
  loginUid,
  membarrier,
  oomScore,
  parentDeathSignal,
  personality,
  threadName,
  threadPersonality,
} from "./tasks/attributes.js";
import { compatActions, compatThread } from "./tasks/compat.js";
import { credentials } from "./tasks/credentials.js";
import { clearTid, robustList, rseq } from "./tasks/futex.js";
import { exitSignal } from "./tasks/exit-signal.js";
import { segmentTable } from "./tasks/ldt.js";
import { limits } from "./tasks/limits.js";
import { restartBlock } from "./tasks/restart-block.js";
import { autogroup, coreDumpFilter, denyWriteExecute, memoryMerge } from "./tasks/process-bits.js";
import { affinity, ioPriority, scheduling } from "./tasks/scheduling.js";
import { threadBits } from "./tasks/thread-bits.js";
import { userDispatch } from "./tasks/user-dispatch.js";
import { shadowStack } from "./tasks/shadow-stack.js";
import { tileRoom, vectorState } from "./tasks/vector-state.js";
import { tracing } from "./tasks/tracing.js";
import { itimers } from "./timers/itimers.js";
import { posixTimers } from "./timers/posix-timers.js";
import { timerfds } from "./timers/timerfd.js";
import { terminals } from "./ttys/terminal.js";
import { fanotifies } from "./watches/fanotify.js";
import { inotifies } from "./watches/inotify.js";

/** Attributes of threads and processes. Within a stage they are restored in this order. */
export const threadParts: readonly ThreadPart[] = [
  fileLocks,
  semaphoreUndo,
  actions,
  compatActions,
  personality,
  exitSignal,
  childSubreaper,
  oomScore,
  loginUid,
  membarrier,
  addressSpace,
  segmentTable,
  coreDumpFilter,
  autogroup,
  memoryMerge,
  vectorState,
  sharedSeccomp,
  tracing,
  itimers,
  posixTimers,
  tileRoom,
  limits,
  threadName,
  affinity,
  scheduling,
  ioPriority,
  threadBits,
  threadPersonality,
  memoryPolicy,
  userDispatch,
  restartBlock,
  altstack,
  robustList,
  compatThread,
  clearTid,
  rseq,
  pending,
  directoryNotices,
  seccomp,
  lsmLabels,
  credentials,
  parentDeathSignal,
  denyWriteExecute,
  shadowStack,
];

/** Kinds of open file, asked in this order whether a file is theirs. */
export const fileKinds: readonly FileKind<unknown>[] = [
  pipes,
  fifos,
  unixSocketKind,
  inetSockets,
  netlinkSockets,
  packetKind,
  otherSockets,
  eventfds,
  epolls,
  signalfds,
  timerfds,
  pidfds,
  userfaultfds,
  ioUrings,
  namespaceFiles,
  bpfMaps,
  inotifies,
  fanotifies,
  terminals,
  secretMemoryFiles,
  memfds,
  regularFiles,
];
