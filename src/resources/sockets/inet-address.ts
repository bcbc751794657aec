/**
 * Addresses in messages about IPv4 and IPv6 sockets: a port, and words of four bytes as they lie in memory.
 */
import { closeSync } from "node:fs";
import { AF_INET, type SocketAddress } from "../../linux/addresses.js";
import { interfaceIndex } from "../../linux/packet.js";
import { SOCK_CLOEXEC, SOCK_DGRAM, socket } from "../../linux/sockets.js";
import { fileEntry } from "../files/table.schema.js";
import type { RestoreSession } from "../part.js";
import type { AddressPair } from "../policy.js";
import type { InetSkEntry } from "./inet.schema.js";

/** Port and words of an address; words of nothing but zero where there is none. */
export function placeFields(which: "src" | "dst", address: SocketAddress | undefined, family: number): object {
  const isInet = address?.family === "inet" || address?.family === "inet6";
  const bytes = isInet ? address.address : Buffer.alloc(family === AF_INET ? 4 : 16);
  return { [`${which}_port`]: isInet ? address.port : 0, [`${which}_addr`]: words(bytes) };
}

const words = (bytes: Buffer) => Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(i * 4));

/** The address that words and a port make. */
export function addressOf(entry: InetSkEntry, which: "src" | "dst"): SocketAddress | undefined {
  const address = bytesOf(which === "src" ? entry.src_addr : entry.dst_addr);
  const port = which === "src" ? entry.src_port : entry.dst_port;
  if (address.length === 4) return { family: "inet", address, port };
  if (address.length === 16) return { family: "inet6", address, port, flowInfo: 0, scopeId: entry.scope_id ?? 0 };
  return undefined;
}

function bytesOf(from: readonly number[]): Buffer {
  const bytes = Buffer.alloc(from.length * 4);
  from.forEach((word, i) => bytes.writeUInt32LE(word, i * 4));
  return bytes;
}

/** First bytes of an IPv6 address that stands for an IPv4 one. */
export const MAPPED = Buffer.from("00000000000000000000ffff", "hex");

/** The IPv4 address in an IPv6 one of the form ::ffff:a.b.c.d; any other as it is. */
export function unmapped(address: Buffer): Buffer {
  return address.length === 16 && address.subarray(0, 12).equals(MAPPED) ? address.subarray(12) : address;
}

/** The address that `--map-ip` puts in place of another. */
export function replaced(address: Buffer, pairs: readonly AddressPair[]): Buffer {
  const to = pairs.find(({ from }) => from.equals(address))?.to;
  if (to !== undefined) return to;
  const inner = unmapped(address);
  return inner === address ? address : Buffer.concat([MAPPED, replaced(inner, pairs)]);
}

/** An address with whatever `--map-ip` puts in its place. */
export function placedAddress(address: SocketAddress, { options }: RestoreSession): SocketAddress {
  const isInet = address.family === "inet" || address.family === "inet6";
  return isInet ? { ...address, address: replaced(address.address, options.mapIp) } : address;
}

/** An address of a link goes by the number of its device, which may be another one here: its socket is bound to the device by name. */
function ofLink(entry: InetSkEntry): InetSkEntry {
  const device = entry.opts.so_bound_dev;
  if (entry.scope_id === undefined || device === undefined) return entry;
  const fd = socket({ family: entry.family, type: SOCK_DGRAM | SOCK_CLOEXEC });
  try {
    return { ...entry, scope_id: interfaceIndex(fd, device) ?? entry.scope_id };
  } finally {
    closeSync(fd);
  }
}

/** An entry with the addresses that its socket is going to have. */
export function placed(saved: InetSkEntry, { options }: RestoreSession): InetSkEntry {
  const entry = ofLink(saved);
  if (options.mapIp.length === 0) return entry;
  const change = (from: readonly number[]) => words(replaced(bytesOf(from), options.mapIp));
  return { ...entry, src_addr: change(entry.src_addr), dst_addr: change(entry.dst_addr) };
}

const known = new WeakMap<RestoreSession, readonly InetSkEntry[]>();

/** All IPv4 and IPv6 sockets of the images, with the addresses that they are going to have. */
export function inetEntries(session: RestoreSession): readonly InetSkEntry[] {
  let entries = known.get(session);
  if (entries === undefined) {
    entries = session.images
      .records("FILES", [], fileEntry)
      .flatMap(({ value }) => (value.isk === undefined ? [] : [placed(value.isk, session)]));
    known.set(session, entries);
  }
  return entries;
}
