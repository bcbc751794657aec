/**
 * Addresses of page servers: dialled, or listened at. TCP over IPv4 or IPv6, or a UNIX socket with a path.
 */
import { spawnSync } from "node:child_process";
import { unlinkSync } from "node:fs";
import { KernelError, UsageError } from "../../errors.js";
import { AF_INET, AF_INET6, AF_UNIX, type SocketAddress } from "../../linux/addresses.js";
import { close } from "../../linux/files.js";
import { parseIpAddress } from "../../linux/ip-text.js";
import {
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
  accept4,
  bind,
  connect,
  getsockname,
  listen,
  setsockoptInt,
  socket,
} from "../../linux/sockets.js";
import { type Patience, POLLIN, waitFor } from "../../linux/streams.js";
import type { PeerAddress } from "./options.js";

/** uapi/asm-generic/socket.h, uapi/linux/tcp.h */
const SO_REUSEADDR = 2;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const BACKLOG = 8;

/** Connects; the descriptor is close-on-exec. */
export function dial(to: PeerAddress): number {
  if (to.socket !== undefined) return to.socket;
  if (to.address === undefined || (to.port === undefined && !to.address.includes("/"))) {
    throw new UsageError({
      code: "PAGE_ADDRESS_MISSING",
      message: "Cannot reach a page server: nobody said where it is",
      remedy: ["Give --address ADDRESS and --port PORT", "Give a connected socket with --ps-socket FD"],
    });
  }
  const address = resolve(to);
  const fd = socket({ family: familyOf(address), type: SOCK_STREAM | SOCK_CLOEXEC });
  try {
    connect(fd, address);
    hurry(fd, address);
    return fd;
  } catch (cause) {
    close(fd);
    throw new UsageError({
      code: "PAGE_SERVER_UNREACHABLE",
      message: `Cannot reach a page server at ${nameOf(to)}: ${textOf(cause)}`,
      remedy: ["Start one there first: criu page-server --port PORT", "Look at the address, the port and what lies between"],
      cause,
    });
  }
}

/** A socket that waits for one connection. */
export interface Listening {
  readonly fd: number;
  /** Where it waits, for people. */
  readonly name: string;
  /** The port; 0 for a UNIX socket. */
  readonly port: number;
  readonly path: string | undefined;
}

/** Listens; port 0 or none: one that is free. */
export function listenAt(at: PeerAddress): Listening {
  const address = resolve({ ...at, address: at.address ?? "0.0.0.0", port: at.port ?? 0 });
  const fd = socket({ family: familyOf(address), type: SOCK_STREAM | SOCK_CLOEXEC });
  try {
    if (address.family !== "unix") setsockoptInt(fd, { level: SOL_SOCKET, name: SO_REUSEADDR }, 1);
    bind(fd, address);
    listen(fd, BACKLOG);
    const got = getsockname(fd);
    const port = got.family === "inet" || got.family === "inet6" ? got.port : 0;
    const path = address.family === "unix" ? at.address : undefined;
    return { fd, port, path, name: path ?? nameOf({ ...at, port }) };
  } catch (cause) {
    close(fd);
    throw badAddress(at, textOf(cause), cause);
  }
}

/** Waits for the next connection. */
export function acceptFrom(listening: Listening, patience: Patience): number {
  waitFor({ fd: listening.fd, events: POLLIN }, patience);
  const fd = accept4(listening.fd, SOCK_CLOEXEC);
  hurry(fd, getsockname(fd));
  return fd;
}

export function stopListening({ fd, path }: Listening): void {
  close(fd);
  if (path === undefined) return;
  try {
    unlinkSync(path);
  } catch {
    // Somebody else removed it: what was wanted.
  }
}

/** Questions are small and wait for their answers: they must not wait for more to send. */
function hurry(fd: number, address: SocketAddress): void {
  if (address.family !== "unix") setsockoptInt(fd, { level: IPPROTO_TCP, name: TCP_NODELAY }, 1);
}

function familyOf({ family }: SocketAddress): number {
  return family === "unix" ? AF_UNIX : family === "inet6" ? AF_INET6 : AF_INET;
}

export function nameOf({ address, port, socket: fd }: PeerAddress): string {
  if (fd !== undefined) return `descriptor ${fd}`;
  const host = address ?? "any address";
  if (host.includes("/")) return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function resolve(at: PeerAddress): SocketAddress {
  const host = at.address ?? "";
  if (host.includes("/")) return { family: "unix", name: Buffer.from(host) };
  const port = at.port ?? 0;
  const [bare = "", zone] = host.replace(/^\[(.*)\]$/, "$1").split("%");
  const address = parseIpAddress(bare) ?? lookUp(host, at);
  if (address.length === 4) return { family: "inet", address, port };
  return { family: "inet6", address, port, flowInfo: 0, scopeId: Number(zone ?? 0) || 0 };
}

/** What the system's resolver says: getent(1), which knows /etc/hosts and DNS alike. */
function lookUp(host: string, at: PeerAddress): Buffer {
  const { status, stdout } = spawnSync("getent", ["ahosts", host], { encoding: "utf8", timeout: 20_000 });
  const first = status === 0 ? (stdout.split(/\s/)[0] ?? "") : "";
  const address = parseIpAddress(first);
  if (address !== undefined) return address;
  throw badAddress(at, "it is neither an IP address nor a name that getent(1) finds");
}

function badAddress(at: PeerAddress, because: string, cause?: unknown): UsageError {
  return new UsageError({
    code: "PAGE_ADDRESS_BAD",
    message: `Cannot use ${nameOf(at)} for a page server: ${because}`,
    remedy: ["Give an address of this machine and a free port with --address and --port"],
    cause,
  });
}

function textOf(cause: unknown): string {
  return cause instanceof KernelError || cause instanceof Error ? cause.message : String(cause);
}
