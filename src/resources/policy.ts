/**
 * What the user allows or asks for, as far as parts of the resources care. The engine's options satisfy it.
 */
export interface PolicyOptions {
  readonly shellJob: boolean;
  readonly fileLocks: boolean;
  readonly linkRemap: boolean;
  /** Largest deleted file taken into images, in bytes of allocated blocks. */
  readonly ghostLimitBytes: number;
  readonly tcpEstablished: boolean;
  /** How segments of TCP connections are held back; both ways of the kernel are served by nftables. */
  readonly networkLock: "iptables" | "nftables" | "skip";
  readonly external: readonly string[];
  readonly inheritFd: readonly string[];
  readonly fileValidation: "filesize" | "buildid";
  readonly skipFileRwxCheck: boolean;
}
