/**
 * Addresses in messages about IPv4 and IPv6 sockets: a port, and words of four bytes as they lie in memory.
 */
import type { SocketAddress } from "../../linux/addresses.js";
import type { InetSkEntry } from "./inet.schema.js";

/** Port and words of an address. */
export function placeFields(which: "src" | "dst", address: SocketAddress | undefined): object {
  const isInet = address?.family === "inet" || address?.family === "inet6";
  const bytes = isInet ? address.address : Buffer.alloc(0);
  const words = Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(i * 4));
  return { [`${which}_port`]: isInet ? address.port : 0, [`${which}_addr`]: words };
}

/** The address that words and a port make. */
export function addressOf(entry: InetSkEntry, which: "src" | "dst"): SocketAddress | undefined {
  const words = which === "src" ? entry.src_addr : entry.dst_addr;
  const port = which === "src" ? entry.src_port : entry.dst_port;
  const bytes = Buffer.alloc(words.length * 4);
  words.forEach((word, i) => bytes.writeUInt32LE(word, i * 4));
  if (bytes.length === 4) return { family: "inet", address: bytes, port };
  if (bytes.length === 16) return { family: "inet6", address: bytes, port, flowInfo: 0, scopeId: entry.scope_id ?? 0 };
  return undefined;
}
