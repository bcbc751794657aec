/**
 * Options about memory over several dumps, and about servers.
 */
import type { OptionSpec } from "./spec.js";
import { preCopy, preDumpMode } from "./special.js";

const MAX_PORT = 65_535;
const MAX_FD = 2 ** 31 - 1;

export const memoryOptions: readonly OptionSpec[] = [
  {
    kind: "flag",
    name: "track-mem",
    key: "trackMem",
    negatable: true,
    rpc: "track_mem",
    commands: ["dump", "pre-dump"],
    built: true,
    help: "note which pages change from now on",
  },
  {
    kind: "special",
    name: "pre-copy",
    ...preCopy,
    argumentName: "WHEN",
    commands: ["dump"],
    built: true,
    help: "copy memory while the tree runs: auto (where it is worth it, default), always, never",
  },
  {
    kind: "special",
    name: "pre-dump-mode",
    ...preDumpMode,
    argumentName: "MODE",
    rpc: "pre_dump_mode",
    commands: ["pre-dump"],
    built: true,
    help: "splice (default): from inside; read: from outside",
  },
  {
    kind: "flag",
    name: "auto-dedup",
    key: "autoDedup",
    negatable: true,
    rpc: "auto_dedup",
    built: true,
    help: "punch pages that are not needed any longer out of images",
  },
  {
    kind: "flag",
    name: "page-server",
    key: "pageServer",
    negatable: true,
    commands: ["dump", "pre-dump", "lazy-pages"],
    built: false,
    help: "send pages to a page server",
  },
  {
    kind: "flag",
    name: "lazy-pages",
    key: "lazyPages",
    negatable: false,
    rpc: "lazy_pages",
    built: false,
    help: "bring in pages when they are needed",
  },
];

export const serverOptions: readonly OptionSpec[] = [
  { kind: "text", name: "address", key: "address", argumentName: "ADDRESS", built: false, help: "address of the server or service" },
  { kind: "number", name: "port", key: "port", min: 0, max: MAX_PORT, argumentName: "PORT", built: false, help: "port of the page server" },
  {
    kind: "number",
    name: "ps-socket",
    key: "psSocket",
    min: 0,
    max: MAX_FD,
    argumentName: "FD",
    built: false,
    help: "connected socket of the page server",
  },
  {
    kind: "number",
    name: "status-fd",
    key: "statusFd",
    min: 0,
    max: MAX_FD,
    argumentName: "FD",
    rpc: "status_fd",
    built: true,
    help: "write a zero byte to FD and close it when ready",
  },
  {
    kind: "text",
    name: "tls-cacert",
    key: "tlsCacert",
    argumentName: "FILE",
    rpc: "tls_cacert",
    built: false,
    help: "trust certificates of this authority only",
  },
  { kind: "text", name: "tls-cacrl", key: "tlsCacrl", argumentName: "FILE", rpc: "tls_cacrl", built: false, help: "revocation list" },
  { kind: "text", name: "tls-cert", key: "tlsCert", argumentName: "FILE", rpc: "tls_cert", built: false, help: "own certificate" },
  { kind: "text", name: "tls-key", key: "tlsKey", argumentName: "FILE", rpc: "tls_key", built: false, help: "own private key" },
  { kind: "flag", name: "tls", key: "tls", negatable: true, rpc: "tls", built: false, help: "secure the connection with TLS" },
  {
    kind: "flag",
    name: "tls-no-cn-verify",
    key: "tlsNoCnVerify",
    negatable: false,
    rpc: "tls_no_cn_verify",
    built: false,
    help: "do not verify the server's name",
  },
];
