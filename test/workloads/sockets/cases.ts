import type { Case } from "../../harness/run-case.js";

const named = (type: string, name: string, claim: string): Case => ({
  workload: "sockets/unix-stream",
  args: [type, name],
  rows: ["unix.stream-named"],
  claim,
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
  { workload: "sockets/unix-pending", rows: ["unix.in-flight-connect"], claim: "clients that wait are accepted later" },
  { workload: "sockets/unix-pending", args: ["seqpacket"], rows: ["unix.in-flight-connect"], claim: "also seqpacket ones" },
  { workload: "sockets/unix-rights", rows: ["unix.scm-rights"], claim: "descriptors in flight arrive" },
  {
    workload: "sockets/inet",
    rows: ["sk.udp", "tcp.listen", "tcp.unconnected", "tcp.opts"],
    claim: "UDP with what waits there, listening and unconnected TCP, IPv4 and IPv6",
    peerCannot: "4.1 asks TCP sockets for options that new kernels refuse",
  },
  {
    workload: "sockets/tcp-closing",
    rows: ["tcp.half-closed", "tcp.closed", "tcp.syn-in-flight"],
    claim: "connections come to their ends from every state",
    options: ["--tcp-established"],
    timeoutMs: 60_000,
    peerCannot: "4.1 asks TCP sockets for options that new kernels refuse",
  },
  {
    workload: "sockets/tcp",
    rows: ["tcp.established", "tcp.buffers"],
    claim: "TCP connections with full queues lose no byte, and inside the tree need no option",
    peerCannot: "4.1 asks TCP sockets for options that new kernels refuse",
  },
  {
    workload: "sockets/netlink",
    rows: ["sk.netlink"],
    claim: "netlink sockets keep ports, groups and options",
    peerCannot: "does not dump groups above 32",
  },
  { workload: "sockets/netlink", args: ["nameless"], rows: ["sk.netlink"], claim: "netlink sockets with low groups" },
  { workload: "sockets/options", rows: ["sk.opts-generic"], claim: "options of the socket level are kept" },
];
