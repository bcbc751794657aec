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
  "tree.ptraced": { by: ["target/freeze"] },
  "tree.pids": { by: ["tasks/tree-plan"] },
  "tree.sessions": { by: ["tasks/tree-plan"] },
  "tree.zombies": { by: ["tasks/tree-plan", "target/exit"] },
  "tree.shared-kobj": { by: ["tasks/kernel-ids", "engine/shared-spaces"] },
  "tree.stopped": { by: ["engine/restore-finish"] },
  "task.fs-cwd-root": { by: ["files/working-dir"] },
  "task.umask": { by: ["files/working-dir"] },
  "cred.apparmor": { by: [], missing: "stacks and policy namespaces are refused" },
  "cred.selinux": { by: [], missing: "labels of sockets and mounts" },
  "cred.dumpable": { by: ["memory/finish"] },
  "file.fd-table": { by: ["files/table"] },
  "file.fown": { by: ["files/table"] },
  "file.ghost": { by: ["files/deleted"] },
  "file.ghost-sparse": { by: ["files/deleted"] },
  "file.ghost-mapped": { by: ["files/deleted"] },
  "file.link-remap": { by: ["files/remap"] },
  "file.procfs": { by: ["files/proc-path"] },
  "tty.console-vt": { by: [], missing: "as a controlling terminal only with --shell-job" },
  "file.inotify": { by: [], missing: "unread events become an overflow (IN_Q_OVERFLOW)" },
  "file.fanotify": { by: [], missing: "unread events are lost; marks that decide about permissions are refused" },
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
  "mem.aio": { by: ["memory/aio"], missing: "requests that never end, as polls: the kernel does not show them" },
  "ns.ipc-shm": { by: ["ipc/shm", "memory/segments"], missing: "segments that nobody has attached, and those of huge pages" },
  "mem.mm-struct": { by: ["memory/finish"] },
  "net.lock": { by: ["sockets/lock", "sockets/tcp-connection"], missing: "nftables only, also where iptables is asked for" },
  "unix.scm-rights": { by: [], missing: "in a stream, descriptors travel with all bytes since the last ones" },
  "unix.in-flight-connect": { by: [], missing: "a client that has sent data or has closed already is refused" },
  "sk.opts-generic": { by: [], missing: "eBPF filters are refused" },
  "sk.bpf-filter": { by: ["sockets/options"], missing: "eBPF filters are refused" },
  "sk.opts-ip": { by: ["sockets/inet-options"] },
  "mode.inherit-fd": { by: ["files/inherit"], missing: "regular files and pipes only" },
  "mode.dump-restore": { by: ["engine/dump", "engine/restore"] },
  "mode.iters": { by: ["engine/dump", "engine/restore"] },
  "mode.pre-dump": { by: ["engine/pre-dump", "engine/previous"], missing: "memory that processes share comes with the dump" },
  "mode.snapshot": { by: ["engine/previous"] },
  "mode.dedup": { by: ["engine/dedup"], missing: "by a page server" },
  "mode.stats": { by: ["engine/stats"] },
  "mode.crit": { by: ["cli/crit"] },
  "mode.check": { by: ["engine/check"] },
  "mode.config": { by: ["cli/options"] },
  "mode.exec-cmd": { by: ["cli/commands"] },
  "mode.file-validation": { by: ["files/regular"], missing: "no checksum where a file has no build id" },
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
