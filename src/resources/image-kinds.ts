/**
 * Which messages the records of an image are. Kinds that are missing here hold no messages (raw bytes).
 */
import { cpuinfoEntry } from "../images/cpuinfo.schema.js";
import type { MessageType } from "../images/codec/schema.js";
import { floePageDigests } from "../images/page-digests.schema.js";
import { floePageIndex } from "../images/page-index.schema.js";
import { inventoryEntry } from "../images/inventory.schema.js";
import type { ImageKindName } from "../images/kinds.js";
import { statsEntry } from "../images/stats.schema.js";
import { cgroupEntry } from "./cgroups/cgroup.schema.js";
import { bpfmapDataEntry } from "./devices/bpfmap-data.schema.js";
import { bpfmapFileEntry } from "./devices/bpfmap.schema.js";
import { tunfileEntry } from "./devices/tun.schema.js";
import { eventpollFileEntry, eventpollTfdEntry } from "./events/epoll.schema.js";
import { eventfdFileEntry } from "./events/eventfd.schema.js";
import { pidfdEntry } from "./events/pidfd.schema.js";
import { ghostChunkEntry, ghostFileEntry } from "./files/deleted.schema.js";
import { extFileEntry } from "./files/external.schema.js";
import { fileLockEntry } from "./files/locks.schema.js";
import { floeCarriedFile } from "./files/carried.schema.js";
import { regFileEntry } from "./files/regular.schema.js";
import { remapFilePathEntry } from "./files/remap.schema.js";
import { fdinfoEntry, fileEntry } from "./files/table.schema.js";
import { fsEntry } from "./files/working-dir.schema.js";
import { ipcMsgEntry } from "./ipc/msg.schema.js";
import { ipcSemEntry } from "./ipc/sem.schema.js";
import { ipcShmEntry } from "./ipc/shm.schema.js";
import { ipcVarEntry } from "./ipc/sysctl.schema.js";
import { memfdInodeEntry } from "./memory/memfd.schema.js";
import { mmEntry } from "./memory/mm.schema.js";
import { pagemapEntry, pagemapHead } from "./memory/pagemap.schema.js";
import { vmaEntry } from "./memory/vma.schema.js";
import { autofsEntry } from "./mounts/autofs.schema.js";
import { binfmtMiscEntry } from "./mounts/binfmt.schema.js";
import { mntEntry } from "./mounts/mount.schema.js";
import { nsFileEntry } from "./namespaces/nsfile.schema.js";
import { pidnsEntry } from "./namespaces/pid.schema.js";
import { timensEntry } from "./namespaces/time.schema.js";
import { usernsEntry } from "./namespaces/user.schema.js";
import { utsnsEntry } from "./namespaces/uts.schema.js";
import { netDeviceEntry, netnsEntry } from "./network/link.schema.js";
import { fifoEntry } from "./pipes/fifo.schema.js";
import { pipeDataEntry } from "./pipes/pipe-data.schema.js";
import { pipeEntry } from "./pipes/pipe.schema.js";
import { apparmorEntry } from "./security/apparmor.schema.js";
import { saEntry } from "./signals/actions.schema.js";
import { siginfoEntry } from "./signals/pending.schema.js";
import { signalfdEntry } from "./signals/signalfd.schema.js";
import { inetSkEntry } from "./sockets/inet.schema.js";
import { netlinkSkEntry } from "./sockets/netlink.schema.js";
import { packetSockEntry } from "./sockets/packet.schema.js";
import { skPacketEntry } from "./sockets/queue.schema.js";
import { tcpStreamEntry } from "./sockets/tcp.schema.js";
import { floeUnixWaiting } from "./sockets/unix-backlog.schema.js";
import { unixSkEntry } from "./sockets/unix.schema.js";
import { coreEntry } from "./tasks/core.schema.js";
import { credsEntry } from "./tasks/credentials.schema.js";
import { taskKobjIdsEntry } from "../images/object-ids.schema.js";
import { rlimitEntry } from "./tasks/limits.schema.js";
import { seccompEntry } from "./tasks/seccomp.schema.js";
import { pstreeEntry } from "./tasks/tree.schema.js";
import { timerfdEntry } from "./timers/timerfd.schema.js";
import { itimerEntry, posixTimerEntry } from "./timers/timers.schema.js";
import { ttyDataEntry, ttyFileEntry, ttyInfoEntry } from "./ttys/tty.schema.js";
import { irmapCacheEntry } from "./watches/file-handle.schema.js";
import { fanotifyFileEntry, fanotifyMarkEntry, inotifyFileEntry, inotifyWdEntry } from "./watches/fsnotify.schema.js";

/** Messages of an image: `first` when the first record is of another type than the rest. */
export interface KindMessages {
  readonly first?: MessageType<object>;
  readonly entry: MessageType<object>;
}

export const IMAGE_MESSAGES: { readonly [K in ImageKindName]?: KindMessages } = {
  INVENTORY: { entry: inventoryEntry },
  FDINFO: { entry: fdinfoEntry },
  PAGEMAP: { first: pagemapHead, entry: pagemapEntry },
  SHMEM_PAGEMAP: { first: pagemapHead, entry: pagemapEntry },
  REG_FILES: { entry: regFileEntry },
  EXT_FILES: { entry: extFileEntry },
  NS_FILES: { entry: nsFileEntry },
  EVENTFD_FILE: { entry: eventfdFileEntry },
  EVENTPOLL_FILE: { entry: eventpollFileEntry },
  EVENTPOLL_TFD: { entry: eventpollTfdEntry },
  SIGNALFD: { entry: signalfdEntry },
  INOTIFY_FILE: { entry: inotifyFileEntry },
  INOTIFY_WD: { entry: inotifyWdEntry },
  FANOTIFY_FILE: { entry: fanotifyFileEntry },
  FANOTIFY_MARK: { entry: fanotifyMarkEntry },
  CORE: { entry: coreEntry },
  IDS: { entry: taskKobjIdsEntry },
  MM: { entry: mmEntry },
  VMAS: { entry: vmaEntry },
  PIPES: { entry: pipeEntry },
  PIPES_DATA: { entry: pipeDataEntry },
  FIFO: { entry: fifoEntry },
  FIFO_DATA: { entry: pipeDataEntry },
  PSTREE: { entry: pstreeEntry },
  SIGACT: { entry: saEntry },
  UNIXSK: { entry: unixSkEntry },
  INETSK: { entry: inetSkEntry },
  PACKETSK: { entry: packetSockEntry },
  NETLINK_SK: { entry: netlinkSkEntry },
  SK_QUEUES: { entry: skPacketEntry },
  ITIMERS: { entry: itimerEntry },
  POSIX_TIMERS: { entry: posixTimerEntry },
  CREDS: { entry: credsEntry },
  UTSNS: { entry: utsnsEntry },
  IPC_VAR: { entry: ipcVarEntry },
  IPCNS_SHM: { entry: ipcShmEntry },
  IPCNS_MSG: { entry: ipcMsgEntry },
  IPCNS_SEM: { entry: ipcSemEntry },
  FS: { entry: fsEntry },
  REMAP_FPATH: { entry: remapFilePathEntry },
  GHOST_FILE: { first: ghostFileEntry, entry: ghostChunkEntry },
  MEMFD_INODE: { entry: memfdInodeEntry },
  TCP_STREAM: { entry: tcpStreamEntry },
  MNTS: { entry: mntEntry },
  NETDEV: { entry: netDeviceEntry },
  NETNS: { entry: netnsEntry },
  AUTOFS: { entry: autofsEntry },
  BINFMT_MISC_OLD: { entry: binfmtMiscEntry },
  BINFMT_MISC: { entry: binfmtMiscEntry },
  TTY_FILES: { entry: ttyFileEntry },
  TTY_INFO: { entry: ttyInfoEntry },
  TTY_DATA: { entry: ttyDataEntry },
  FILE_LOCKS: { entry: fileLockEntry },
  RLIMIT: { entry: rlimitEntry },
  SIGNAL: { entry: siginfoEntry },
  PSIGNAL: { entry: siginfoEntry },
  TUNFILE: { entry: tunfileEntry },
  CGROUP: { entry: cgroupEntry },
  TIMERFD: { entry: timerfdEntry },
  CPUINFO: { entry: cpuinfoEntry },
  SECCOMP: { entry: seccompEntry },
  USERNS: { entry: usernsEntry },
  FILES: { entry: fileEntry },
  TIMENS: { entry: timensEntry },
  PIDNS: { entry: pidnsEntry },
  BPFMAP_FILE: { entry: bpfmapFileEntry },
  BPFMAP_DATA: { entry: bpfmapDataEntry },
  APPARMOR: { entry: apparmorEntry },
  PIDFD: { entry: pidfdEntry },
  FLOE_UNIX_BACKLOG: { entry: floeUnixWaiting },
  FLOE_CARRIED: { entry: floeCarriedFile },
  FLOE_PAGE_INDEX: { entry: floePageIndex },
  FLOE_PAGE_DIGESTS: { entry: floePageDigests },
  STATS_DUMP: { entry: statsEntry },
  STATS_RESTORE: { entry: statsEntry },
  IRMAP_CACHE: { entry: irmapCacheEntry },
};
