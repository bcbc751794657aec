/**
 * Options of IPv4 and IPv6 sockets that can be set and not read: the program that chooses among the sockets of a port
 * (SO_ATTACH_REUSEPORT_CBPF) and the order that it counts them in, the device for multicast (IP_MULTICAST_IF by its number), policies
 * of IPsec (IP_XFRM_POLICY).
 *
 * Read from   the kernel's memory: struct sock_reuseport, inet_sock, xfrm_policy
 * Made with   setsockopt(2); the sockets of a port are bound in their order
 * Refused     eBPF programs and policies that want their packets transformed: SOCKET_OPTION_UNREADABLE
 */
import { SOCK_FILTER_BYTES } from "../../linux/seccomp.js";
import { AF_INET6 } from "../../linux/addresses.js";
import type { KernelSockets } from "../../linux/kernel-sockets.js";
import { interfaceIndex, interfaceName } from "../../linux/packet.js";
import { SO, attachFilter } from "../../linux/socket-options.js";
import { SOCK_STREAM, SOL_SOCKET, getsockoptInt, setsockopt } from "../../linux/sockets.js";
import type { DumpSession, Fd, OpenFile } from "../part.js";
import { IPPROTO_IP, IPPROTO_IPV6, type InetKind } from "./inet-options.js";
import type { InetSkEntry, XfrmPolicy } from "./inet.schema.js";
import { filterBytes, filterWords } from "./options.js";
import { kernelSockets } from "./unseen.js";

const IP_MULTICAST_IF = { level: IPPROTO_IP, name: 32 };
const IP_XFRM_POLICY = { level: IPPROTO_IP, name: 17 };
const IPV6_XFRM_POLICY = { level: IPPROTO_IPV6, name: 35 };
const POINTER_BYTES = 8;
/** More sockets at one port are not looked through. */
const MOST_SOCKETS = 16_000;
/** Directions of a policy: in and out. */
const DIRECTIONS = 2;
/** uapi/linux/xfrm.h: parts of struct xfrm_userpolicy_info. */
const SELECTOR_BYTES = 56;
const LIFETIME_BYTES = 64;
const POLICY_BYTES = 168;

type Fields = Pick<InetSkEntry, "reuseport_index" | "reuseport_filter" | "multicast_device" | "policies">;
type Stop = (code: string, because: string, ...remedy: [string, ...string[]]) => void;

export function readUnseen(file: OpenFile, { kind, stop, session }: { kind: InetKind; stop: Stop; session: DumpSession }): Fields {
  const { local } = file;
  const kernel = kernelSockets();
  const address = kernel?.has("inet_sock", "sock_reuseport", "bpf_prog", "sock_fprog_kern") === true ? kernel.find(local) : undefined;
  const memory = address === undefined ? undefined : kernel?.read(address, kernel.sizeOf("inet_sock"));
  if (kernel === undefined || address === undefined || memory === undefined) {
    if (getsockoptInt(local, { level: SOL_SOCKET, name: SO.REUSEPORT }) !== 0)
      session.warn(
        `whether a program chooses among the sockets at the port of fd ${file.fd} of process ${file.task.traced.pid} cannot be seen here: if so it is lost`,
      );
    return { reuseport_filter: [], policies: [] };
  }
  const multicast = kind.type === SOCK_STREAM ? 0 : memory.readInt32LE(kernel.at("inet_sock", "mc_index"));
  // Where an address was given, it says the device.
  const device = multicast > 0 && getsockoptInt(local, IP_MULTICAST_IF) === 0 ? interfaceName(local, multicast) : undefined;
  return {
    ...readGroup(kernel, { address, group: memory.readBigUInt64LE(kernel.at("sock", "sk_reuseport_cb")), stop }),
    ...(device === undefined ? {} : { multicast_device: device }),
    policies: readPolicies(kernel, memory, stop),
  };
}

function readGroup(
  kernel: KernelSockets,
  { address, group, stop }: { address: bigint; group: bigint; stop: Stop },
): Pick<Fields, "reuseport_index" | "reuseport_filter"> {
  const bytes = kernel.sizeOf("sock_reuseport");
  const head = kernel.read(group, bytes);
  if (head === undefined) return { reuseport_filter: [] };
  const count = Math.min(head.readUInt16LE(kernel.at("sock_reuseport", "num_socks")), MOST_SOCKETS);
  const sockets = kernel.read(group + BigInt(kernel.at("sock_reuseport", "socks")), count * POINTER_BYTES);
  const places = Array.from({ length: count }, (_, i) => sockets?.readBigUInt64LE(i * POINTER_BYTES));
  const index = count > 1 ? places.indexOf(address) : -1;
  const filter = classicProgram(kernel, head.readBigUInt64LE(kernel.at("sock_reuseport", "prog")));
  if (filter === undefined)
    stop(
      "SOCKET_OPTION_UNREADABLE",
      "an eBPF program chooses among the sockets at its port (SO_ATTACH_REUSEPORT_EBPF), which cannot be read",
      "Take the program off before the dump (SO_DETACH_REUSEPORT_BPF)",
    );
  return { ...(index < 0 ? {} : { reuseport_index: index }), reuseport_filter: filterWords(filter ?? Buffer.alloc(0)) };
}

/** The instructions of a classic program; none at address 0; undefined: it is eBPF. */
function classicProgram(kernel: KernelSockets, program: bigint): Buffer | undefined {
  if (program === 0n) return Buffer.alloc(0);
  const original = kernel.read(program + BigInt(kernel.at("bpf_prog", "orig_prog")), POINTER_BYTES)?.readBigUInt64LE(0) ?? 0n;
  const head = kernel.read(original, kernel.sizeOf("sock_fprog_kern"));
  if (head === undefined) return undefined;
  const count = head.readUInt16LE(kernel.at("sock_fprog_kern", "len"));
  return kernel.read(head.readBigUInt64LE(kernel.at("sock_fprog_kern", "filter")), count * SOCK_FILTER_BYTES);
}

function readPolicies(kernel: KernelSockets, memory: Buffer, stop: Stop): XfrmPolicy[] {
  const first = kernel.layout["sock"]?.at["sk_policy"];
  if (first === undefined) return [];
  const policies: XfrmPolicy[] = [];
  for (let direction = 0; direction < DIRECTIONS; direction++) {
    const address = memory.readBigUInt64LE(first + direction * POINTER_BYTES);
    if (address === 0n) continue;
    const policy = kernel.has("xfrm_policy") ? kernel.read(address, kernel.sizeOf("xfrm_policy")) : undefined;
    const at = (member: string) => kernel.at("xfrm_policy", member);
    if (policy === undefined || policy.readUInt8(at("xfrm_nr")) !== 0)
      stop(
        "SOCKET_OPTION_UNREADABLE",
        "it has a policy of IPsec of its own that transforms packets (IP_XFRM_POLICY), which is not carried",
        "Let the program close the socket, or have a policy of the system instead",
      );
    else
      policies.push({
        direction,
        action: policy.readUInt8(at("action")),
        flags: policy.readUInt8(at("flags")),
        priority: policy.readUInt32LE(at("priority")),
        selector: Buffer.from(policy.subarray(at("selector"), at("selector") + SELECTOR_BYTES)),
        limits: Buffer.from(policy.subarray(at("lft"), at("lft") + LIFETIME_BYTES)),
      });
  }
  return policies;
}

/** In the order in which sockets of a port were counted. */
export function byReuseportIndex(entries: readonly InetSkEntry[]): InetSkEntry[] {
  return [...entries].sort((a, b) => (a.reuseport_index ?? 0) - (b.reuseport_index ?? 0));
}

export function setUnseen(fd: Fd, entry: InetSkEntry): void {
  if (entry.reuseport_filter.length > 0) attachFilter(fd, filterBytes(entry.reuseport_filter), SO.ATTACH_REUSEPORT_CBPF);
  const { multicast_device: device } = entry;
  if (device !== undefined) setsockopt(fd, IP_MULTICAST_IF, mreqn(interfaceIndex(fd, device) ?? 0));
  for (const policy of entry.policies) setsockopt(fd, entry.family === AF_INET6 ? IPV6_XFRM_POLICY : IP_XFRM_POLICY, userPolicy(policy));
}

/** struct ip_mreqn: a group, an address, a device. */
function mreqn(ifindex: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeInt32LE(ifindex, 8);
  return bytes;
}

/** struct xfrm_userpolicy_info: selector, limits, use so far, priority, index, direction, action, flags, share. */
function userPolicy({ direction, action, flags, priority, selector, limits }: XfrmPolicy): Buffer {
  const bytes = Buffer.alloc(POLICY_BYTES);
  bytes.set(selector.subarray(0, SELECTOR_BYTES), 0);
  bytes.set(limits.subarray(0, LIFETIME_BYTES), SELECTOR_BYTES);
  bytes.writeUInt32LE(priority, 152);
  [direction, action, flags].forEach((byte, i) => bytes.writeUInt8(byte & 0xff, 160 + i));
  return bytes;
}
