/**
 * Image messages: fdinfo_entry, file_entry, fd_types.
 */
import { type Infer, enumeration, message, optional, required } from "../../images/codec/schema.js";
import { bpfmapFileEntry } from "../devices/bpfmap.schema.js";
import { tunfileEntry } from "../devices/tun.schema.js";
import { eventpollFileEntry } from "../events/epoll.schema.js";
import { eventfdFileEntry } from "../events/eventfd.schema.js";
import { pidfdEntry } from "../events/pidfd.schema.js";
import { memfdFileEntry } from "../memory/memfd.schema.js";
import { nsFileEntry } from "../namespaces/nsfile.schema.js";
import { fifoEntry } from "../pipes/fifo.schema.js";
import { pipeEntry } from "../pipes/pipe.schema.js";
import { signalfdEntry } from "../signals/signalfd.schema.js";
import { inetSkEntry } from "../sockets/inet.schema.js";
import { netlinkSkEntry } from "../sockets/netlink.schema.js";
import { packetSockEntry } from "../sockets/packet.schema.js";
import { unixSkEntry } from "../sockets/unix.schema.js";
import { timerfdEntry } from "../timers/timerfd.schema.js";
import { ttyFileEntry } from "../ttys/tty.schema.js";
import { fanotifyFileEntry, inotifyFileEntry } from "../watches/fsnotify.schema.js";
import { extFileEntry } from "./external.schema.js";
import { floeIoUringEntry } from "../events/io-uring.schema.js";
import { floeUserfaultfdEntry } from "../events/userfaultfd.schema.js";
import { regFileEntry } from "./regular.schema.js";

export const fdTypes = enumeration("fd_types", {
  UND: 0,
  REG: 1,
  PIPE: 2,
  FIFO: 3,
  INETSK: 4,
  UNIXSK: 5,
  EVENTFD: 6,
  EVENTPOLL: 7,
  INOTIFY: 8,
  SIGNALFD: 9,
  PACKETSK: 10,
  TTY: 11,
  FANOTIFY: 12,
  NETLINKSK: 13,
  NS: 14,
  TUNF: 15,
  EXT: 16,
  TIMERFD: 17,
  MEMFD: 18,
  BPFMAP: 19,
  PIDFD: 20,
  /** Floe's own, which CRIU refuses. */
  FLOE_USERFAULTFD: 1000,
  FLOE_IO_URING: 1001,
  CTL_TTY: 65534,
  AUTOFS_PIPE: 65535,
});

export const fdinfoEntry = message("fdinfo_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2),
  type: required.enum(3, () => fdTypes),
  fd: required.uint32(4),
  xattr_security_selinux: optional.string(5),
  /** Floe's own, of a directory: what the process is told of it by signals (DN_… of fcntl(2) F_NOTIFY). */
  notify: optional.uint32(1000, { floe: true, hex: true }),
}));
export type FdinfoEntry = Infer<typeof fdinfoEntry>;

export const fileEntry = message("file_entry", () => ({
  type: required.enum(1, () => fdTypes),
  id: required.uint32(2),
  reg: optional.message(3, () => regFileEntry),
  isk: optional.message(4, () => inetSkEntry),
  nsf: optional.message(5, () => nsFileEntry),
  psk: optional.message(6, () => packetSockEntry),
  nlsk: optional.message(7, () => netlinkSkEntry),
  efd: optional.message(8, () => eventfdFileEntry),
  epfd: optional.message(9, () => eventpollFileEntry),
  sgfd: optional.message(10, () => signalfdEntry),
  tunf: optional.message(11, () => tunfileEntry),
  tfd: optional.message(12, () => timerfdEntry),
  ify: optional.message(13, () => inotifyFileEntry),
  ffy: optional.message(14, () => fanotifyFileEntry),
  ext: optional.message(15, () => extFileEntry),
  usk: optional.message(16, () => unixSkEntry),
  fifo: optional.message(17, () => fifoEntry),
  pipe: optional.message(18, () => pipeEntry),
  tty: optional.message(19, () => ttyFileEntry),
  memfd: optional.message(20, () => memfdFileEntry),
  bpf: optional.message(21, () => bpfmapFileEntry),
  pidfd: optional.message(22, () => pidfdEntry),
  ufd: optional.message(1000, () => floeUserfaultfdEntry, { floe: true }),
  ring: optional.message(1001, () => floeIoUringEntry, { floe: true }),
}));
export type FileEntry = Infer<typeof fileEntry>;
