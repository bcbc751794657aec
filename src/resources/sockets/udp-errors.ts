/**
 * Errors that wait at UDP sockets: one that the next call will fail with (nobody listens there, ECONNREFUSED), and messages of ICMP in the
 * error queue (IP_RECVERR).
 *
 * Whoever looks takes the error away, be it by SO_ERROR or by recvmsg(2) with MSG_PEEK. So it is read from the kernel's memory, and what
 * waits behind it too.
 *
 * Read from   struct sock (sk_err, sk_error_queue), sock_exterr_skb
 * Made with   the same message of ICMP, which comes over the loopback device
 * Refused     where the kernel's memory may not be read
 * Not kept    what the kernel itself has put into an error queue (time stamps, MSG_ZEROCOPY, EMSGSIZE): a warning says so
 */
import { closeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { AF_INET, AF_INET6 } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import type { KernelSockets } from "../../linux/kernel-sockets.js";
import { icmpError, packetBytes, sendPacket } from "../../linux/raw-packet.js";
import { SOCK_CLOEXEC, SOCK_DGRAM, connect, getsockname, pollOnce, socket } from "../../linux/sockets.js";
import { POLLERR } from "../../linux/streams.js";
import type { DumpSession, Fd, RestoreSession } from "../part.js";
import { addressOf, replaced, unmapped } from "./inet-address.js";
import type { FloeSkError, InetSkEntry } from "./inet.schema.js";
import { kernelSockets } from "./unseen.js";

/** uapi/linux/errqueue.h */
const SO_EE_ORIGIN_ICMP = 2;
const SO_EE_ORIGIN_ICMP6 = 3;
const EXTENDED_ERR_BYTES = 16;

type Errors = Pick<InetSkEntry, "so_error"> & Partial<Pick<InetSkEntry, "errors">>;

/** What waits at a socket; "unreadable": there is something, and it cannot be seen what. */
export function readErrors(fd: Fd, { session, title }: { session: DumpSession; title: () => string }): Errors | "unreadable" {
  if ((pollOnce(fd, 0) & POLLERR) === 0) return {};
  const kernel = kernelSockets();
  const address = kernel?.has("udp_sock", "sock_exterr_skb") === true ? kernel.find(fd) : undefined;
  if (kernel === undefined || address === undefined) return "unreadable";
  const so_error = kernel.read(address + BigInt(kernel.at("sock", "sk_err")), 4)?.readInt32LE(0);
  const queue = kernel.queue(address + BigInt(kernel.at("sock", "sk_error_queue")));
  if (so_error === undefined || queue === undefined) return "unreadable";
  const errors = queue.map((buffer) => readMessage(kernel, buffer));
  const kept = errors.filter((one) => one !== undefined);
  if (kept.length < errors.length) session.warn(`what waits in the error queue of ${title()} and did not come by ICMP is not saved`);
  return { ...(so_error === 0 ? {} : { so_error }), errors: kept };
}

function readMessage(kernel: KernelSockets, address: bigint): FloeSkError | undefined {
  const buffer = kernel.buffer(address);
  if (buffer === undefined) return undefined;
  const { control, memory, network } = buffer;
  const at = (member: string) => kernel.at("sock_exterr_skb", member);
  const error = control.subarray(at("ee"), at("ee") + EXTENDED_ERR_BYTES);
  const origin = error.readUInt8(4);
  if (error.readUInt32LE(0) === ERRNO.EMSGSIZE || (origin !== SO_EE_ORIGIN_ICMP && origin !== SO_EE_ORIGIN_ICMP6)) return undefined;
  const [sender, bytes] = origin === SO_EE_ORIGIN_ICMP ? [12, 4] : [8, 16];
  const to = network + control.readUInt16LE(at("addr_offset"));
  return {
    type: error.readUInt8(5),
    code: error.readUInt8(6),
    info: error.readUInt32LE(8),
    from: Buffer.from(memory.subarray(network + sender, network + sender + bytes)),
    to: Buffer.from(memory.subarray(to, to + bytes)),
    port: control.readUInt16BE(at("port")),
    data: Buffer.concat([memory.subarray(buffer.data), buffer.pages]),
  };
}

/** Types and codes by what a program without an error queue learns of them (icmp_err_convert, icmpv6_err_convert). */
const BY_ERRNO: Readonly<Record<number, { readonly four?: readonly [number, number]; readonly six?: readonly [number, number] }>> = {
  [ERRNO.ECONNREFUSED]: { four: [3, 3], six: [1, 4] },
  [ERRNO.ENOPROTOOPT]: { four: [3, 2] },
  [ERRNO.EPROTO]: { four: [12, 0], six: [4, 0] },
  [ERRNO.EACCES]: { six: [1, 1] },
};

/** Brings the errors about again. */
export function raiseErrors(fd: Fd, entry: InetSkEntry, session: RestoreSession): void {
  const { so_error = 0, errors } = entry;
  if (so_error === 0 && errors.length === 0) return;
  const own = getsockname(fd);
  const messages = errors.length > 0 ? errors : plainError(entry, so_error);
  for (const message of messages) {
    const place = (bytes: Uint8Array) => replaced(Buffer.from(bytes), session.options.mapIp);
    if (own.family === "inet" || own.family === "inet6") raise(message, { own, entry, place });
  }
  if ((pollOnce(fd, 0) & POLLERR) === 0)
    session.warn(`an error that waited at UDP port ${entry.src_port} is lost: it could not be brought about`);
}

/** Of a socket without an error queue: as if its peer had sent the message. */
function plainError(entry: InetSkEntry, errno: number): FloeSkError[] {
  const peer = addressOf(entry, "dst");
  if (peer?.family !== "inet" && peer?.family !== "inet6") return [];
  const to = unmapped(peer.address);
  const known = BY_ERRNO[errno]?.[to.length === 4 ? "four" : "six"];
  if (known === undefined) return [];
  return [{ type: known[0], code: known[1], info: 0, from: to, to, port: peer.port, data: Buffer.alloc(0) }];
}

function raise(
  message: FloeSkError,
  { own, entry, place }: { own: { address: Buffer; port: number }; entry: InetSkEntry; place: (bytes: Uint8Array) => Buffer },
): void {
  const [from, to] = [place(message.from), place(message.to)];
  const address = unmapped(own.address).every((byte) => byte === 0) ? addressTowards(to) : unmapped(own.address);
  if (address?.length !== to.length || from.length !== to.length) return;
  const head = Buffer.alloc(8);
  head.writeUInt16BE(own.port, 0);
  head.writeUInt16BE(message.port & 0xffff, 2);
  head.writeUInt16BE(8 + message.data.length, 4);
  const body = Buffer.concat([head, message.data]);
  const packet = packetBytes({ from: { address, port: 0 }, to: { address: to, port: 0 }, protocol: entry.proto, body });
  const { type, code, info } = message;
  try {
    sendPacket(icmpError({ from: { address: from, port: 0 }, to: { address, port: 0 } }, { type, code, info, packet }));
  } catch (error) {
    if (!(error instanceof KernelError)) throw error; // a warning follows
  }
}

/** The address from which this machine sends to another. */
function addressTowards(to: Buffer): Buffer | undefined {
  const fd = socket({ family: to.length === 4 ? AF_INET : AF_INET6, type: SOCK_DGRAM | SOCK_CLOEXEC });
  try {
    connect(
      fd,
      to.length === 4 ? { family: "inet", address: to, port: 9 } : { family: "inet6", address: to, port: 9, flowInfo: 0, scopeId: 0 },
    );
    const own = getsockname(fd);
    return own.family === "inet" || own.family === "inet6" ? own.address : undefined;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return undefined;
  } finally {
    closeSync(fd);
  }
}
