/**
 * Sets of nf_tables that hold TCP connections: addresses and ports of both ends, as they stand in a segment.
 *
 * One rule looks a segment up in a set of thousands of connections as fast as in one of a single connection, and an element takes a
 * hundredth of the time of a rule to be made. Source: uapi/linux/netfilter/nf_tables.h.
 */
import { attribute } from "./netlink.js";

/** One end of a connection; 4 or 16 bytes of address. */
export interface TcpEnd {
  readonly address: Buffer;
  readonly port: number;
}

/** The two ends of a connection. */
export interface Connection {
  readonly here: TcpEnd;
  readonly there: TcpEnd;
}

const ATTRIBUTE_BYTES = 4;
const NESTED = 0x8000;
const LIST_ELEM = 1;
const ELEM_KEY = 1;
const DATA_VALUE = 1;

/** Bytes of an address. */
export type AddressBytes = 4 | 16;

/** Source, destination, both ports. */
export const keyBytes = (addressBytes: AddressBytes) => 2 * addressBytes + 4;

function writeHead(into: Buffer, at: number, type: number, length: number): number {
  into.writeUInt16LE(ATTRIBUTE_BYTES + length, at);
  into.writeUInt16LE(type, at + 2);
  return at + ATTRIBUTE_BYTES;
}

/** NFTA_SET_ELEM_LIST_ELEMENTS of segments from one end to the other. */
export function elements(from: "here" | "there", connections: readonly Connection[], addressBytes: AddressBytes): Buffer {
  const key = keyBytes(addressBytes);
  const each = 3 * ATTRIBUTE_BYTES + key;
  const list = Buffer.alloc(each * connections.length);
  const to = from === "here" ? "there" : "here";
  connections.forEach((connection, i) => {
    let at = writeHead(list, i * each, LIST_ELEM | NESTED, each - ATTRIBUTE_BYTES);
    at = writeHead(list, at, ELEM_KEY | NESTED, ATTRIBUTE_BYTES + key);
    at = writeHead(list, at, DATA_VALUE, key);
    connection[from].address.copy(list, at);
    connection[to].address.copy(list, at + addressBytes);
    list.writeUInt16BE(connection[from].port, at + 2 * addressBytes);
    list.writeUInt16BE(connection[to].port, at + 2 * addressBytes + 2);
  });
  return attribute(3 | NESTED, list);
}

/** The attributes in a list, of which all may have the same type. */
function* listed(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at + ATTRIBUTE_BYTES <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_BYTES || at + length > bytes.length) return;
    yield bytes.subarray(at + ATTRIBUTE_BYTES, at + length);
    at += (length + 3) & ~3;
  }
}

/** What is listed in an answer, of segments from here to there. */
export function connectionsOf(list: Buffer, addressBytes: AddressBytes): Connection[] {
  const found: Connection[] = [];
  for (const element of listed(list)) {
    const [first = Buffer.alloc(0)] = listed(element);
    const [key] = listed(first);
    if (key?.length !== keyBytes(addressBytes)) continue;
    const end = (which: 0 | 1): TcpEnd => ({
      address: Buffer.from(key.subarray(which * addressBytes, (which + 1) * addressBytes)),
      port: key.readUInt16BE(2 * addressBytes + 2 * which),
    });
    found.push({ here: end(0), there: end(1) });
  }
  return found;
}
