/**
 * Which rows of the capability catalogue are carried: what docs/support.md is made from.
 *
 * A part names its rows itself (registry.ts). Here are those that are no part's own: what the engine, the planner of
 * trees and the memory code do together. A row that is carried in part only says what is missing.
 */
import { fileKinds, threadParts } from "./registry.js";

/** How far a row is carried. */
export interface Support {
  /** The parts that carry it, as `folder/part`. */
  readonly by: readonly string[];
  /** What of the row is not carried; undefined: nothing is missing. */
  readonly missing?: string;
}

/** Rows of the engine and of memory, and what is missing of rows that are carried in part. */
const OWN: Readonly<Record<string, Support>> = {
  "cpu.gpregs": { by: ["tasks/core-x86"] },
  "cpu.fpregs": { by: ["tasks/core-x86"] },
  "cpu.foreign-arch": { by: [], missing: "x86-64 only; images of other processors can be looked at (crit)" },
  "cpu.shstk": { by: [], missing: "built to the kernel's documentation; no machine with shadow stacks was at hand to try it" },
  "cpu.syscall-restart": { by: ["target/x86_64"] },
  "thr.dead-leader": { by: ["tasks/dead-leader"] },
  "thr.posix-aio": { by: ["target/x86_64"] },
  "sig.pending-sigtrap": { by: ["signals/pending"] },
  "tree.vfork": { by: ["target/freeze"] },
  "tree.ptraced": { by: ["target/freeze", "tasks/tracing"] },
  "tree.pids": { by: ["tasks/tree-plan"] },
  "tree.sessions": { by: ["tasks/tree-plan"] },
  "tree.zombies": { by: ["tasks/tree-plan", "target/exit"] },
  "tree.shared-kobj": { by: ["tasks/kernel-ids", "engine/shared-spaces"] },
  "tree.stopped": { by: ["engine/restore-finish"] },
  "task.fs-cwd-root": { by: ["files/working-dir"] },
  "task.umask": { by: ["files/working-dir"] },
  "cred.apparmor": { by: [], missing: "stacks and policy namespaces are refused" },
  "cred.selinux": { by: [], missing: "labels of mounts; built to the kernel's documentation, no machine with SELinux was at hand" },
  "cred.dumpable": { by: ["memory/finish"] },
  "file.fd-table": { by: ["files/table"] },
  "file.fown": { by: ["files/table"] },
  "file.ghost": { by: ["files/deleted"] },
  "file.ghost-sparse": { by: ["files/deleted"] },
  "file.ghost-mapped": { by: ["files/deleted"] },
  "file.link-remap": { by: ["files/remap"] },
  "file.regular": {
    by: [],
    missing:
      "files whose names have more than 4095 bytes are refused; where BPF is not allowed, notices about a directory by signals (F_NOTIFY) are lost, and a reader of /dev/kmsg begins anew, and a warning says so",
  },
  "file.procfs": { by: ["files/proc-path"] },
  "file.inotify": {
    by: [],
    missing:
      "where BPF is not allowed, unread events become an overflow (IN_Q_OVERFLOW) in images of a tree that was left running, or that went over a stream",
  },
  "file.fanotify": {
    by: [],
    missing:
      "unread events become an overflow (FAN_Q_OVERFLOW), and are lost where the queue has no limit (FAN_UNLIMITED_QUEUE), which never overflows: each names the process that caused it, and only that process could cause it again",
  },
  "ns.pid": {
    by: ["engine/restore-namespaces"],
    missing: "with a mount namespace (a /proc of its own); files of /proc that are open by the number outside",
  },
  "time.clocks-timens": { by: ["namespaces/clocks"] },
  "mem.vma-layout": { by: ["memory/pages", "memory/address-space"] },
  "mem.file-maps": { by: ["memory/mappings", "memory/objects"] },
  "mem.shared-anon": { by: ["memory/shared"] },
  "mem.advice-lock-thp": { by: ["memory/finish"] },
  "mem.growsdown": { by: ["memory/address-space"] },
  "mem.cow": { by: ["memory/inherit"] },
  "mem.vdso": { by: ["memory/vdso", "memory/vdso-other"] },
  "mem.uprobes": { by: ["memory/mappings"] },
  "mem.wipe-droppable-guard": { by: ["memory/finish", "memory/pages"] },
  "mem.hugetlb": { by: ["memory/mappings", "memory/shared"] },
  "mem.aio": {
    by: ["memory/aio"],
    missing: "requests that may never end, as polls: refused where the kernel has BTF and BPF, lost elsewhere",
  },
  "ns.ipc-shm": { by: ["ipc/shm", "memory/segments"] },
  "ns.ipc-msg": { by: ["ipc/msg"] },
  "ns.ipc-sysctl": { by: ["ipc/sysctl"] },
  "mem.mm-struct": { by: ["memory/finish"] },
  "net.lock": {
    by: ["sockets/lock", "sockets/tcp-connection"],
    missing: "connections of the tree's own network namespace only one by one",
  },
  "unix.mntns": { by: [], missing: "processes that are in mount namespaces of their own" },
  "unix.in-flight-connect": {
    by: [],
    missing: "descriptors sent and not accepted that no process of the tree has any more",
  },
  "sk.raw-icmp": { by: [], missing: "packets that wait to be read are lost, as in CRIU: one sent again would reach others as well" },
  "sk.netlink": {
    by: ["sockets/netlink-queue"],
    missing:
      "messages of the kernel, and messages to groups, that are not read are refused, or dropped where the user says so (--netlink-policy drop): nobody can speak in the kernel's name (a socket that binds port 0 is given another); that messages were lost (ENOBUFS) and the program has not been told",
  },
  "sk.packet": {
    by: [],
    missing: "packets that wait outside of a ring are lost, as in CRIU; groups that share packets by a program are refused",
  },
  "sk.opts-generic": {
    by: [],
    missing:
      "eBPF filters and eBPF programs that choose among SO_REUSEPORT sockets are refused; without BTF the kernel tells nobody of the latter, nor of classic ones: a warning says so",
  },
  "sk.bpf-filter": { by: ["sockets/options"], missing: "eBPF filters are refused" },
  "sk.opts-ip": {
    by: ["sockets/inet-options", "sockets/unseen-options"],
    missing:
      "IPsec policies of a socket that transform packets (IP_XFRM_POLICY) are refused; without BTF neither policies nor IP_MULTICAST_IF set by the number of a device can be read",
  },
  "sk.udp": {
    by: [],
    missing:
      "without BTF corked output is refused, and an error that waits is refused too, and an empty datagram that was looked at already and is not the first is lost; what waits in datagrams of more than 3 KiB, or where bpf(2) is not allowed, says by IP_PKTINFO that it came over the loopback device",
  },
  "tty.pty": {
    by: ["ttys/terminal"],
    missing:
      "where BPF is not allowed, stopped output (^S), and a status of packet mode that the master has not read (TIOCPKT), are refused; so is such a status elsewhere where a literal ^S or ^Q waits to be read, or input was flushed while EXTPROC is on",
  },
  "mode.inherit-fd": { by: ["files/inherit", "ttys/outside"] },
  "mode.dump-restore": { by: ["engine/dump", "engine/restore"] },
  "mode.iters": { by: ["engine/dump", "engine/restore"] },
  "mode.pre-dump": { by: ["engine/pre-dump", "engine/previous"] },
  "mode.snapshot": { by: ["engine/previous", "engine/snapshot"] },
  "mode.stream": { by: ["engine/stream"] },
  "mode.dedup": { by: ["engine/dedup", "engine/page-server"] },
  "mode.lazy-pages": { by: ["engine/lazy", "memory/lazy"], missing: "copy-on-write sharing of pages that come later" },
  "mode.remote-lazy-pages": { by: ["engine/page-server", "engine/lazy"] },
  "mode.tls": { by: ["engine/page-server"] },
  "mode.lazy-migrate": { by: ["engine/page-server", "engine/lazy"] },
  "mode.page-server": {
    by: ["engine/page-server"],
    missing: "increments to a server of CRIU: all pages are sent, since it cannot say which it has",
  },
  "mode.stats": { by: ["engine/stats"] },
  "mode.crit": { by: ["cli/crit"] },
  "mode.check": { by: ["engine/check"] },
  "mode.config": { by: ["cli/options"] },
  "mode.exec-cmd": { by: ["cli/commands"] },
  "mode.irmap": { by: ["watches/irmap"] },
  "mode.file-validation": { by: ["files/unchanged"] },
};

/** Every carried row of the catalogue with who carries it. */
export function supportedRows(): Map<string, Support> {
  const rows = new Map<string, Support>(Object.entries(OWN));
  for (const { name, rows: carried } of [...threadParts, ...fileKinds]) {
    for (const row of carried) {
      const known = rows.get(row);
      rows.set(row, { ...known, by: [...(known?.by ?? []), name] });
    }
  }
  return rows;
}
