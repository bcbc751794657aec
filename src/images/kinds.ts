/**
 * The kinds of image file: name, magic, and what follows a record.
 *
 * `%u` in a name is a decimal number, `%x` a hexadecimal one. Magic 0: raw bytes without framing.
 */

/** First magic of an ordinary image, and of a service file (stats). */
export const COMMON_MAGIC = 0x54564319;
export const SERVICE_MAGIC = 0x55105940;

/** A kind of image file. */
export interface ImageKind {
  readonly file: string;
  readonly magic: number;
  /** `plain`: common magic first; `single`: only its own magic; `service`: service magic first; `raw`: neither. */
  readonly framing: "plain" | "single" | "service" | "raw";
  /** Bytes behind a record; `rest`: everything to the end of the file. */
  readonly extra?: ExtraRule;
}

export type ExtraRule = "bytes" | "length" | "keys-values" | "tcp-queues" | "shm" | "sem" | "msg" | "ghost";

export const IMAGE_KINDS = {
  INVENTORY: { file: "inventory.img", magic: 0x58313116, framing: "single" },
  FDINFO: { file: "fdinfo-%u.img", magic: 0x56213732, framing: "plain" },
  PAGEMAP: { file: "pagemap-%u.img", magic: 0x56084025, framing: "plain" },
  SHMEM_PAGEMAP: { file: "pagemap-shmem-%u.img", magic: 0x56084025, framing: "plain" },
  REG_FILES: { file: "reg-files.img", magic: 0x50363636, framing: "plain" },
  EXT_FILES: { file: "ext-files.img", magic: 0x59255641, framing: "plain" },
  NS_FILES: { file: "ns-files.img", magic: 0x61394011, framing: "plain" },
  EVENTFD_FILE: { file: "eventfd.img", magic: 0x44523722, framing: "plain" },
  EVENTPOLL_FILE: { file: "eventpoll.img", magic: 0x45023858, framing: "plain" },
  EVENTPOLL_TFD: { file: "eventpoll-tfd.img", magic: 0x44433746, framing: "plain" },
  SIGNALFD: { file: "signalfd.img", magic: 0x57323820, framing: "plain" },
  INOTIFY_FILE: { file: "inotify.img", magic: 0x48424431, framing: "plain" },
  INOTIFY_WD: { file: "inotify-wd.img", magic: 0x54562009, framing: "plain" },
  FANOTIFY_FILE: { file: "fanotify.img", magic: 0x55096122, framing: "plain" },
  FANOTIFY_MARK: { file: "fanotify-mark.img", magic: 0x56506035, framing: "plain" },
  CORE: { file: "core-%u.img", magic: 0x55053847, framing: "plain" },
  IDS: { file: "ids-%u.img", magic: 0x54432030, framing: "plain" },
  MM: { file: "mm-%u.img", magic: 0x57492820, framing: "plain" },
  VMAS: { file: "vmas-%u.img", magic: 0x54123737, framing: "plain" },
  PIPES: { file: "pipes.img", magic: 0x56513555, framing: "plain" },
  PIPES_DATA: { file: "pipes-data.img", magic: 0x56453709, framing: "plain", extra: "bytes" },
  FIFO: { file: "fifo.img", magic: 0x58364939, framing: "plain" },
  FIFO_DATA: { file: "fifo-data.img", magic: 0x59333054, framing: "plain", extra: "bytes" },
  PSTREE: { file: "pstree.img", magic: 0x50273030, framing: "plain" },
  SIGACT: { file: "sigacts-%u.img", magic: 0x55344201, framing: "plain" },
  UNIXSK: { file: "unixsk.img", magic: 0x54373943, framing: "plain" },
  INETSK: { file: "inetsk.img", magic: 0x56443851, framing: "plain" },
  PACKETSK: { file: "packetsk.img", magic: 0x60454618, framing: "plain" },
  NETLINK_SK: { file: "netlinksk.img", magic: 0x58005614, framing: "plain" },
  SK_QUEUES: { file: "sk-queues.img", magic: 0x56264026, framing: "plain", extra: "length" },
  ITIMERS: { file: "itimers-%u.img", magic: 0x57464056, framing: "plain" },
  POSIX_TIMERS: { file: "posix-timers-%u.img", magic: 0x52603957, framing: "plain" },
  CREDS: { file: "creds-%u.img", magic: 0x54023547, framing: "plain" },
  UTSNS: { file: "utsns-%u.img", magic: 0x54473203, framing: "plain" },
  IPC_VAR: { file: "ipcns-var-%u.img", magic: 0x53115007, framing: "plain" },
  IPCNS_SHM: { file: "ipcns-shm-%u.img", magic: 0x46283044, framing: "plain", extra: "shm" },
  IPCNS_MSG: { file: "ipcns-msg-%u.img", magic: 0x55453737, framing: "plain", extra: "msg" },
  IPCNS_SEM: { file: "ipcns-sem-%u.img", magic: 0x59573019, framing: "plain", extra: "sem" },
  FS: { file: "fs-%u.img", magic: 0x51403912, framing: "plain" },
  REMAP_FPATH: { file: "remap-fpath.img", magic: 0x59133954, framing: "plain" },
  GHOST_FILE: { file: "ghost-file-%x.img", magic: 0x52583605, framing: "plain", extra: "ghost" },
  MEMFD_INODE: { file: "memfd.img", magic: 0x48453499, framing: "plain" },
  TCP_STREAM: { file: "tcp-stream-%x.img", magic: 0x51465506, framing: "plain", extra: "tcp-queues" },
  MNTS: { file: "mountpoints-%u.img", magic: 0x55563928, framing: "plain" },
  NETDEV: { file: "netdev-%u.img", magic: 0x57373951, framing: "plain" },
  NETNS: { file: "netns-%u.img", magic: 0x55933752, framing: "plain" },
  IFADDR: { file: "ifaddr-%u.img", magic: 0x00000000, framing: "raw" },
  ROUTE: { file: "route-%u.img", magic: 0x00000000, framing: "raw" },
  ROUTE6: { file: "route6-%u.img", magic: 0x00000000, framing: "raw" },
  RULE: { file: "rule-%u.img", magic: 0x00000000, framing: "raw" },
  IPTABLES: { file: "iptables-%u.img", magic: 0x00000000, framing: "raw" },
  IP6TABLES: { file: "ip6tables-%u.img", magic: 0x00000000, framing: "raw" },
  NFTABLES: { file: "nftables-%u.img", magic: 0x00000000, framing: "raw" },
  TMPFS_IMG: { file: "tmpfs-%u.tar.gz.img", magic: 0x00000000, framing: "raw" },
  TMPFS_DEV: { file: "tmpfs-dev-%u.tar.gz.img", magic: 0x00000000, framing: "raw" },
  AUTOFS: { file: "autofs-%u.img", magic: 0x49353943, framing: "plain" },
  BINFMT_MISC_OLD: { file: "binfmt-misc-%u.img", magic: 0x67343323, framing: "plain" },
  BINFMT_MISC: { file: "binfmt-misc.img", magic: 0x67343323, framing: "plain" },
  TTY_FILES: { file: "tty.img", magic: 0x59433025, framing: "plain" },
  TTY_INFO: { file: "tty-info.img", magic: 0x59453036, framing: "plain" },
  TTY_DATA: { file: "tty-data.img", magic: 0x59413026, framing: "plain" },
  FILE_LOCKS: { file: "filelocks.img", magic: 0x54323616, framing: "plain" },
  RLIMIT: { file: "rlimit-%u.img", magic: 0x57113925, framing: "plain" },
  PAGES: { file: "pages-%u.img", magic: 0x00000000, framing: "raw" },
  PAGES_OLD: { file: "pages-%u.img", magic: 0x56084025, framing: "plain" },
  SHM_PAGES_OLD: { file: "pages-shmem-%u.img", magic: 0x56084025, framing: "plain" },
  SIGNAL: { file: "signal-s-%u.img", magic: 0x59255647, framing: "plain" },
  PSIGNAL: { file: "signal-p-%u.img", magic: 0x59255647, framing: "plain" },
  TUNFILE: { file: "tunfile.img", magic: 0x57143751, framing: "plain" },
  CGROUP: { file: "cgroup.img", magic: 0x59383330, framing: "plain" },
  TIMERFD: { file: "timerfd.img", magic: 0x50493712, framing: "plain" },
  CPUINFO: { file: "cpuinfo.img", magic: 0x61404013, framing: "plain" },
  SECCOMP: { file: "seccomp.img", magic: 0x64413049, framing: "plain" },
  USERNS: { file: "userns-%u.img", magic: 0x55474906, framing: "plain" },
  NETNF_CT: { file: "netns-ct-%u.img", magic: 0x00000000, framing: "raw" },
  NETNF_EXP: { file: "netns-exp-%u.img", magic: 0x00000000, framing: "raw" },
  FILES: { file: "files.img", magic: 0x56303138, framing: "plain" },
  TIMENS: { file: "timens-%u.img", magic: 0x43114433, framing: "plain" },
  PIDNS: { file: "pidns-%u.img", magic: 0x61157326, framing: "plain" },
  BPFMAP_FILE: { file: "bpfmap-file.img", magic: 0x57506142, framing: "plain" },
  BPFMAP_DATA: { file: "bpfmap-data.img", magic: 0x64324033, framing: "plain", extra: "keys-values" },
  APPARMOR: { file: "apparmor.img", magic: 0x59423047, framing: "plain" },
  PIDFD: { file: "pidfd.img", magic: 0x54435556, framing: "plain" },
  STATS_DUMP: { file: "stats-dump", magic: 0x57093306, framing: "service" },
  STATS_RESTORE: { file: "stats-restore", magic: 0x57093306, framing: "service" },
  /** What is in the rings of a packet socket, by the id of its file. */
  FLOE_PACKET_RING: { file: "floe-packet-ring-%u.img", magic: 0x00000000, framing: "raw" },
  FLOE_CARRIED: { file: "floe-carried.img", magic: 0x464c4f45, framing: "plain" },
  FLOE_UNIX_BACKLOG: { file: "floe-unix-backlog.img", magic: 0x464c4f55, framing: "plain" },
  FLOE_CARRIED_DATA: { file: "floe-carried-%u.img", magic: 0x00000000, framing: "raw" },
  FLOE_INOTIFY: { file: "floe-inotify-%x.img", magic: 0x00000000, framing: "raw" },
  FLOE_PAGE_STORE: { file: "floe-page-store.img", magic: 0x00000000, framing: "raw" },
  FLOE_PAGE_INDEX: { file: "floe-page-index-%u.img", magic: 0x46504749, framing: "plain" },
  FLOE_PAGE_DIGESTS: { file: "floe-page-digests.img", magic: 0x46504744, framing: "plain" },
  IRMAP_CACHE: { file: "irmap-cache", magic: 0x57004059, framing: "service" },
} as const satisfies Readonly<Record<string, ImageKind>>;

export type ImageKindName = keyof typeof IMAGE_KINDS;

/** Name of an image file of `kind` for the number in it. */
export function imageFileName(kind: ImageKindName, ids: readonly (number | bigint)[]): string {
  let at = 0;
  return IMAGE_KINDS[kind].file.replace(/%[ux]/g, (form) => {
    const id = ids[at++];
    if (id === undefined) throw new Error(`internal error: image ${kind} needs a number`);
    return id.toString(form === "%x" ? 16 : 10);
  });
}

/** The link to the images of the dump before, in the directory of a later one. */
export const PARENT_LINK = "parent";
