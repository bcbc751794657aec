/**
 * What the user allows or asks for, as far as parts of the resources care.
 */

/** When a file of a path still is the file that a process knew. */
export const FILE_POLICIES = ["strict", "grown", "ignore", "carry"] as const;

/**
 * strict   same size, mode and build
 * grown    longer than before is allowed too: logs and other files that are only added to
 * ignore   any file of the same type will do
 * carry    dump: the contents go into the images; restore: they serve where the file is gone or is another one
 */
export type FilePolicy = (typeof FILE_POLICIES)[number];

/** One policy for all files, and others for single paths. */
export interface FilePolicies {
  /** Undefined: `carry` at a restore for what the images have the contents of, `strict` otherwise. */
  readonly general: FilePolicy | undefined;
  readonly byPath: ReadonlyMap<string, FilePolicy>;
}

/** The policy that was asked for for the file of a path. */
export function policyOf(path: string, { filePolicy }: Pick<PolicyOptions, "filePolicy">): FilePolicy | undefined {
  return filePolicy.byPath.get(path) ?? filePolicy.general;
}

/** What becomes of a TCP connection: it is carried; it comes back closed; it comes back broken off (ECONNRESET). */
export const TCP_POLICIES = ["keep", "close", "reset"] as const;
export type TcpPolicy = (typeof TCP_POLICIES)[number];

/** A policy for all connections, and others by the port of either end. */
export interface TcpPolicies {
  readonly general: TcpPolicy | undefined;
  readonly byPort: ReadonlyMap<number, TcpPolicy>;
}

/** What becomes of messages that a netlink socket has not read: the dump is refused, or they are dropped. */
export const NETLINK_POLICIES = ["refuse", "drop"] as const;
export type NetlinkPolicy = (typeof NETLINK_POLICIES)[number];

/** An address (4 or 16 bytes) that another takes the place of. */
export interface AddressPair {
  readonly from: Buffer;
  readonly to: Buffer;
}

/** The engine's options satisfy it. */
export interface PolicyOptions {
  /** Restore: file that gets the pid of the root. */
  readonly pidfile?: string | undefined;
  /** The dump leaves the tree running, or stopped. */
  readonly leaveRunning?: boolean;
  readonly leaveStopped?: boolean;
  readonly shellJob: boolean;
  readonly fileLocks: boolean;
  readonly linkRemap: boolean;
  /** Largest deleted file taken into images, in bytes of allocated blocks. */
  readonly ghostLimitBytes: number;
  readonly tcpEstablished: boolean;
  /** Connections are not saved, and come back as closed sockets. */
  readonly tcpClose: boolean;
  /** Comes before both of these. */
  readonly tcpPolicy: TcpPolicies;
  readonly netlinkPolicy?: NetlinkPolicy;
  /** Addresses that sockets get in place of those they had. */
  readonly mapIp: readonly AddressPair[];
  /** Leave out TCP connections that no program has accepted yet. */
  readonly skipInFlight: boolean;
  /** Allow UNIX datagram sockets that are connected to one outside the tree: all, or those with these inodes outside. */
  readonly extUnixSk: boolean;
  readonly extUnixSkInodes: readonly number[];
  /** How segments of TCP connections are held back; `auto`, when nothing is said: by nftables. */
  readonly networkLock: "auto" | "iptables" | "nftables" | "skip";
  readonly external: readonly string[];
  readonly inheritFd: readonly string[];
  /** At the dump: accept slaves of pseudo-terminals whose masters are outside. They come back with new masters. */
  readonly orphanPtsMaster?: boolean;
  /** At the restore: who gets these masters; the descriptors are the callee's to close. */
  readonly takeOrphanMaster?: (master: { readonly fd: number; readonly index: number }) => void;
  readonly fileValidation: "filesize" | "buildid";
  readonly skipFileRwxCheck: boolean;
  readonly filePolicy: FilePolicies;
  /** Names of watched files are always searched for; places to search first. */
  readonly forceIrmap?: boolean;
  readonly irmapScanPaths?: readonly string[];
  /** Accept processes in whose code somebody has put uprobes. */
  readonly allowUprobes?: boolean;
  /** Security label for all threads instead of the saved ones, as `apparmor:NAME` or `selinux:CONTEXT`. */
  readonly lsmProfile?: string | undefined;
}
