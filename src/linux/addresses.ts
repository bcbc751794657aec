/**
 * Socket addresses: struct sockaddr_un, sockaddr_in, sockaddr_in6, sockaddr_nl. unix(7), ip(7), ipv6(7), netlink(7).
 *
 * Source: uapi/linux/un.h, uapi/linux/in.h, uapi/linux/in6.h, uapi/linux/netlink.h.
 */
export const AF_UNSPEC = 0;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_PACKET = 17;
export const AF_VSOCK = 40;

/** An address of a socket. */
export type SocketAddress =
  /** `name` as the kernel keeps it: a path without NUL, or a NUL and an abstract name; empty: unnamed. */
  | { readonly family: "unix"; readonly name: Buffer }
  /** `address` has 4 bytes, in network order. */
  | { readonly family: "inet"; readonly address: Buffer; readonly port: number }
  /** `address` has 16 bytes. */
  | { readonly family: "inet6"; readonly address: Buffer; readonly port: number; readonly flowInfo: number; readonly scopeId: number }
  | { readonly family: "netlink"; readonly portId: number; readonly groups: number }
  /** The raw bytes of any other family. */
  | { readonly family: "other"; readonly number: number; readonly bytes: Buffer };

/** sizeof(struct sockaddr_storage). */
export const SOCKADDR_STORAGE_BYTES = 128;
const SUN_PATH_BYTES = 108;

export function encodeAddress(address: SocketAddress): Buffer {
  switch (address.family) {
    case "unix": {
      const isPath = address.name.length > 0 && address.name[0] !== 0;
      const bytes = Buffer.alloc(2 + address.name.length + (isPath && address.name.length < SUN_PATH_BYTES ? 1 : 0));
      bytes.writeUInt16LE(AF_UNIX, 0);
      address.name.copy(bytes, 2);
      return bytes;
    }
    case "inet": {
      const bytes = Buffer.alloc(16);
      bytes.writeUInt16LE(AF_INET, 0);
      bytes.writeUInt16BE(address.port, 2);
      address.address.copy(bytes, 4, 0, 4);
      return bytes;
    }
    case "inet6": {
      const bytes = Buffer.alloc(28);
      bytes.writeUInt16LE(AF_INET6, 0);
      bytes.writeUInt16BE(address.port, 2);
      bytes.writeUInt32BE(address.flowInfo, 4);
      address.address.copy(bytes, 8, 0, 16);
      bytes.writeUInt32LE(address.scopeId, 24);
      return bytes;
    }
    case "netlink": {
      const bytes = Buffer.alloc(12);
      bytes.writeUInt16LE(AF_NETLINK, 0);
      bytes.writeUInt32LE(address.portId, 4);
      bytes.writeUInt32LE(address.groups, 8);
      return bytes;
    }
    case "other":
      return address.bytes;
  }
}

/** From the bytes the kernel returned, exactly as many as it said. */
export function decodeAddress(bytes: Buffer): SocketAddress {
  const number = bytes.length >= 2 ? bytes.readUInt16LE(0) : AF_UNSPEC;
  if (number === AF_UNIX) {
    const name = bytes.subarray(2);
    const end = name.length > 0 && name[0] !== 0 ? name.indexOf(0) : -1;
    return { family: "unix", name: Buffer.from(end < 0 ? name : name.subarray(0, end)) };
  }
  if (number === AF_INET && bytes.length >= 8) {
    return { family: "inet", address: Buffer.from(bytes.subarray(4, 8)), port: bytes.readUInt16BE(2) };
  }
  if (number === AF_INET6 && bytes.length >= 28) {
    return {
      family: "inet6",
      address: Buffer.from(bytes.subarray(8, 24)),
      port: bytes.readUInt16BE(2),
      flowInfo: bytes.readUInt32BE(4),
      scopeId: bytes.readUInt32LE(24),
    };
  }
  if (number === AF_NETLINK && bytes.length >= 12) {
    return { family: "netlink", portId: bytes.readUInt32LE(4), groups: bytes.readUInt32LE(8) };
  }
  return { family: "other", number, bytes: Buffer.from(bytes) };
}
