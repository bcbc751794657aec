/**
 * What the user allows or asks for, as far as parts of the resources care.
 */

/** When a file of a path still is the file that a process knew. */
export const FILE_POLICIES = ["strict", "grown", "ignore"] as const;

/**
 * strict   same size, mode and build
 * grown    longer than before is allowed too: logs and other files that are only added to
 * ignore   any file of the same type will do
 */
export type FilePolicy = (typeof FILE_POLICIES)[number];

/** One policy for all files, and others for single paths. */
export interface FilePolicies {
  readonly general: FilePolicy;
  readonly byPath: ReadonlyMap<string, FilePolicy>;
}

/** What becomes of a TCP connection: it is carried; it comes back closed; it comes back broken off (ECONNRESET). */
export const TCP_POLICIES = ["keep", "close", "reset"] as const;
export type TcpPolicy = (typeof TCP_POLICIES)[number];

/** A policy for all connections, and others by the port of either end. */
export interface TcpPolicies {
  readonly general: TcpPolicy | undefined;
  readonly byPort: ReadonlyMap<number, TcpPolicy>;
}

/** An address (4 or 16 bytes) that another takes the place of. */
export interface AddressPair {
  readonly from: Buffer;
  readonly to: Buffer;
}

/** The engine's options satisfy it. */
export interface PolicyOptions {
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
  /** Addresses that sockets get in place of those they had. */
  readonly mapIp: readonly AddressPair[];
  /** Leave out TCP connections that no program has accepted yet. */
  readonly skipInFlight: boolean;
  /** Allow UNIX datagram sockets that are connected to one outside the tree: all, or those with these inodes outside. */
  readonly extUnixSk: boolean;
  readonly extUnixSkInodes: readonly number[];
  /** How segments of TCP connections are held back; both ways of the kernel are served by nftables. */
  readonly networkLock: "iptables" | "nftables" | "skip";
  readonly external: readonly string[];
  readonly inheritFd: readonly string[];
  readonly fileValidation: "filesize" | "buildid";
  readonly skipFileRwxCheck: boolean;
  readonly filePolicy: FilePolicies;
  /** Accept processes in whose code somebody has put uprobes. */
  readonly allowUprobes?: boolean;
  /** Security label for all threads instead of the saved ones, as `apparmor:NAME` or `selinux:CONTEXT`. */
  readonly lsmProfile?: string | undefined;
}
