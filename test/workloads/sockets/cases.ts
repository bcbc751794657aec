import { existsSync, readFileSync } from "node:fs";
import type { Case } from "../../harness/run-case.js";

function hasMptcp(): boolean {
  try {
    return readFileSync("/proc/sys/net/mptcp/enabled", "latin1").trim() === "1";
  } catch {
    return false;
  }
}

const named = (type: string, name: string, claim: string): Case => ({
  workload: "sockets/unix-stream",
  args: [type, name],
  rows: ["unix.stream-named"],
  claim,
});

const ring = (...args: string[]): Case => ({
  workload: "sockets/packet-ring",
  args,
  rows: ["sk.packet"],
  claim: "rings of packet sockets go on where they were, nothing lost and all in order",
  peerCannot: "does not keep what is in a ring",
  modes: ["alone", "in-place", "killed-restored", "twice"],
});

export const socketCases: readonly Case[] = [
  named("stream", "server", "a server, its clients, and the node of its name go on"),
  named("seqpacket", "server", "the same for seqpacket"),
  named("stream", "@server", "the same with an abstract name"),
  {
    workload: "sockets/unix-pairs",
    rows: ["unix.pairs-queues", "unix.shutdown"],
    claim: "pairs keep their queues, ends and shutdown states",
    peerCannot: "loses what comes after an empty datagram",
  },
  { workload: "sockets/unix-dgram", rows: ["unix.dgram"], claim: "datagram sockets keep names, peers and queues" },
  {
    workload: "sockets/unix-dgram",
    args: ["senders"],
    rows: ["unix.dgram"],
    claim: "and the addresses of senders",
    peerCannot: "does not keep addresses of senders",
  },
  {
    workload: "sockets/unix-names",
    rows: ["unix.unconnected", "unix.deleted-names"],
    claim: "names of every sort are kept, also removed ones",
  },
  {
    workload: "sockets/unix-moved",
    rows: ["unix.stream-named", "unix.deleted-names"],
    claim: "nodes that were moved since they were made stay where they are",
    modes: ["alone", "in-place", "twice"],
    peerCannot: "takes a socket whose node was moved for a deleted one",
  },
  { workload: "sockets/unix-pending", rows: ["unix.in-flight-connect"], claim: "clients that wait are accepted later" },
  { workload: "sockets/unix-pending", args: ["seqpacket"], rows: ["unix.in-flight-connect"], claim: "also seqpacket ones" },
  {
    workload: "sockets/unix-unaccepted",
    rows: ["unix.in-flight-connect"],
    claim: "what clients have sent before they are accepted arrives, also from those that are closed",
    peerCannot: "refuses such connections",
  },
  {
    workload: "sockets/unix-unaccepted",
    args: ["rights"],
    rows: ["unix.in-flight-connect"],
    claim: "so do descriptors and urgent bytes that they have sent, in their places",
    modes: ["alone", "left-running", "twice"],
    peerCannot: "refuses such connections",
  },
  { workload: "sockets/unix-rights", rows: ["unix.scm-rights"], claim: "descriptors in flight arrive" },
  {
    workload: "sockets/unix-carriers",
    rows: ["unix.scm-rights"],
    claim: "descriptors and urgent bytes keep their places in streams, and sockets carry sockets",
    peerCannot: "keeps neither the places of descriptors in a stream nor urgent bytes",
  },
  {
    workload: "sockets/unix-ends",
    rows: ["unix.shutdown", "unix.dgram", "unix.pairs-queues"],
    claim: "errors, shutdowns that do not match, full queues, and senders that are closed",
    peerCannot: "keeps neither errors nor addresses of senders",
  },
  {
    workload: "sockets/unix-ends",
    args: ["error"],
    rows: ["unix.shutdown"],
    claim: "messages behind an error",
    modes: ["alone", "left-running", "twice"],
    peerCannot: "does not keep errors",
  },
  {
    workload: "sockets/unix-mntns",
    rows: ["unix.mntns", "unix.deleted-names"],
    claim: "names given in a mount namespace that is gone stay, and come to light nowhere",
    peerCannot: "needs the mount namespace",
  },
  {
    workload: "sockets/unix-jail",
    rows: ["unix.mntns", "unix.stream-named"],
    claim: "names below another root directory are the same there and lead to their sockets",
    peerCannot: "does not find names below another root directory",
  },
  {
    workload: "sockets/unix-peercred",
    rows: ["unix.peercred"],
    claim: "both ends of every connection see the same process, ids and groups at the other end",
    peerCannot: "does not keep credentials of peers",
  },
  {
    workload: "sockets/inet",
    rows: ["sk.udp", "tcp.listen", "tcp.unconnected", "tcp.opts"],
    claim: "UDP with what waits there, listening and unconnected TCP, IPv4 and IPv6",
    peerCannotDump: "4.1 asks TCP sockets for options that new kernels refuse",
  },
  {
    workload: "sockets/mptcp",
    rows: ["tcp.listen", "tcp.unconnected", "tcp.established"],
    claim: "servers of Multipath TCP listen again, and what they have accepted by plain TCP goes on",
    options: ["--tcp-established"],
    modes: ["alone", "in-place", "twice"],
    peerCannot: "refuses Multipath TCP",
    ...(hasMptcp() ? {} : { machineCannot: "the kernel has no Multipath TCP, or it is switched off" }),
  },
  {
    workload: "sockets/tcp-closing",
    rows: ["tcp.half-closed", "tcp.closed", "tcp.syn-in-flight"],
    claim: "connections come to their ends from every state",
    options: ["--tcp-established"],
    peerCannotDump: "4.1 asks TCP sockets for options that new kernels refuse",
    peerCannotRestore: "cannot put unsent data before the end of a stream",
  },
  {
    workload: "sockets/tcp",
    rows: ["tcp.established", "tcp.buffers"],
    claim: "TCP connections with full queues lose no byte, and inside the tree need no option",
    peerCannotDump: "4.1 asks TCP sockets for options that new kernels refuse",
    peerCannotRestore: "wants --tcp-established for connections inside the tree as well",
  },
  {
    workload: "sockets/raw",
    rows: ["sk.raw-icmp"],
    claim: "raw and ping sockets send and hear as before",
    peerCannotDump: "4.1 asks all sockets for SO_PASSCRED, which new kernels refuse",
  },
  {
    workload: "sockets/packet",
    rows: ["sk.packet", "sk.bpf-filter"],
    claim: "packet sockets hear what they heard, by filter, group and device",
    peerCannotDump: "4.1 asks all sockets for SO_PASSCRED, which new kernels refuse",
  },
  {
    workload: "sockets/udp",
    rows: ["sk.udp"],
    claim: "datagrams wait where they waited, with their senders; multicast groups are joined again",
    peerCannot: "its images have no place for the link of a group's address",
  },
  {
    workload: "sockets/udp",
    args: ["any-link"],
    rows: ["sk.udp"],
    claim: "the same without addresses that are of one link",
    peerCannotDump: "4.1 asks all sockets for SO_PASSCRED, which new kernels refuse",
    modes: ["alone", "killed-restored"],
  },
  {
    workload: "sockets/udp-arrival",
    rows: ["sk.udp"],
    claim: "datagrams say where they came in and what they were sent to, as before",
    modes: ["alone", "in-place", "twice"],
    peerCannot: "does not keep what waits at UDP sockets",
    ...(existsSync("/dev/net/tun") ? {} : { machineCannot: "the machine has no /dev/net/tun" }),
  },
  {
    workload: "sockets/udp-errors",
    rows: ["sk.udp"],
    claim: "errors wait where they waited, with what they are about and what waits behind them",
    modes: ["alone", "left-running", "twice"],
    peerCannot: "takes errors away",
  },
  {
    workload: "sockets/corked",
    rows: ["sk.udp", "sk.raw-icmp"],
    claim: "datagrams of which a part was written go out once, whole, when the rest comes",
    peerCannot: "refuses corked sockets",
  },
  {
    workload: "sockets/unseen",
    rows: ["sk.opts-generic", "sk.opts-ip"],
    claim: "programs that choose among sockets of a port, their order, devices for multicast and policies of IPsec are kept",
    peerCannot: "does not see them",
  },
  {
    workload: "sockets/more-options",
    rows: ["sk.opts-generic", "sk.opts-ip", "tcp.opts", "sk.udp"],
    claim: "options that servers use are kept, on every kind of socket",
    peerCannot: "knows few of them",
  },
  ring("1"),
  ring("2"),
  ring("3"),
  ring("2", "full"),
  ring("3", "full"),
  {
    workload: "sockets/netlink",
    rows: ["sk.netlink"],
    claim: "netlink sockets keep ports, groups and options",
    peerCannot: "does not dump groups above 32",
  },
  { workload: "sockets/netlink", args: ["nameless"], rows: ["sk.netlink"], claim: "netlink sockets with low groups" },
  { workload: "sockets/options", rows: ["sk.opts-generic"], claim: "options of the socket level are kept" },
];
