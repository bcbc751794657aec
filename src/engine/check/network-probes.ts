/**
 * Probes of the network: sockets, netlink, tun, firewalls. What changes anything is tried in a network namespace of its own.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AF_INET, AF_INET6, AF_NETLINK, AF_UNIX } from "../../linux/addresses.js";
import { checked } from "../../linux/errno.js";
import { syscallNumber } from "../../linux/ffi/native.unsafe.js";
import { close } from "../../linux/files.js";
import { CLONE_NEWNET } from "../../linux/namespaces.js";
import {
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
  SOL_SOCKET,
  accept4,
  bind,
  connect,
  getsockname,
  getsockopt,
  getsockoptInt,
  listen,
  setsockoptInt,
  shutdown,
  socket,
} from "../../linux/sockets.js";
import { SYS } from "../../linux/syscalls.js";
import {
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  attribute,
  encodeMessage,
  exchange,
  openNetlink,
  u32,
} from "../../linux/netlink.js";
import { Lacking, type Probe, calls, expect, withFdOf, withFds, withSandbox } from "./probe.js";

const TCP = { family: AF_INET, type: SOCK_STREAM | SOCK_CLOEXEC };
const UDP = { family: AF_INET, type: SOCK_DGRAM | SOCK_CLOEXEC };

/** uapi/linux/sockios.h, asm-generic/socket.h, linux/tcp.h, linux/in6.h. */
const SIOCGSKNS = 0x894c;
const SIOCUNIXFILE = 0x89e0;
const SO_TYPE = 3;
const SO_GET_FILTER = 26;
const SO_PROTOCOL = 38;
const SO_DOMAIN = 39;
const SO_PEEK_OFF = 42;
const SO_BUF_LOCK = 72;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;
const IPPROTO_RAW = 255;
const TCP_REPAIR = 19;
const TCP_REPAIR_QUEUE = 20;
const IPV6_FREEBIND = 78;

const ioctl = (fd: number, request: number, name: string) => checked(syscallNumber(SYS.ioctl, fd, request, 0), () => `ioctl(${name})`);

function socketGetters(): void {
  withFds(
    () => [socket(UDP)],
    (fd = -1) => {
      const get = (name: number) => getsockoptInt(fd, { level: SOL_SOCKET, name });
      expect(get(SO_DOMAIN) === AF_INET && get(SO_TYPE) === SOCK_DGRAM && get(SO_PROTOCOL) === 17, "a socket tells another kind");
      getsockopt(fd, { level: SOL_SOCKET, name: SO_GET_FILTER });
    },
  );
}

function peekOffset(): void {
  withFds(
    () => [socket({ family: AF_UNIX, type: SOCK_STREAM | SOCK_CLOEXEC })],
    (fd = -1) => {
      const option = { level: SOL_SOCKET, name: SO_PEEK_OFF };
      setsockoptInt(fd, option, 5);
      expect(getsockoptInt(fd, option) === 5, "SO_PEEK_OFF does not keep its value");
    },
  );
}

function tcpRepair(): void {
  withFds(
    () => [socket(TCP)],
    (fd = -1) => {
      setsockoptInt(fd, { level: IPPROTO_TCP, name: TCP_REPAIR }, 1);
      getsockoptInt(fd, { level: IPPROTO_TCP, name: TCP_REPAIR_QUEUE });
    },
  );
}

const SHUT_WR = 1;
const LOOPBACK = { family: "inet", address: Buffer.from([127, 0, 0, 1]), port: 0 } as const;

/** A connection that one side has shut down can be taken into repair mode. */
function repairHalfClosed(): void {
  withFds(
    () => [socket(TCP), socket(TCP)],
    (server = -1, client = -1) => {
      bind(server, LOOPBACK);
      listen(server, 1);
      connect(client, getsockname(server));
      withFds(
        () => [accept4(server, SOCK_CLOEXEC)],
        (accepted = -1) => {
          shutdown(accepted, SHUT_WR);
          setsockoptInt(accepted, { level: IPPROTO_TCP, name: TCP_REPAIR }, 1);
        },
      );
    },
  );
}

/** The file of a UNIX socket that is bound to a path. */
function fileOfUnixSocket(): void {
  const directory = mkdtempSync(join(tmpdir(), "floe-check-"));
  try {
    withFds(
      () => [socket({ family: AF_UNIX, type: SOCK_STREAM | SOCK_CLOEXEC })],
      (fd = -1) => {
        bind(fd, { family: "unix", name: Buffer.from(join(directory, "s")) });
        close(ioctl(fd, SIOCUNIXFILE, "SIOCUNIXFILE"));
      },
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const NETLINK_ROUTE = 0;
const NETLINK_SOCK_DIAG = 4;
const NETLINK_NETFILTER = 12;
const SOCK_DIAG_BY_FAMILY = 20;
const INET_DIAG_REQ_BYTES = 56;
const UNIX_DIAG_REQ_BYTES = 24;

/** Asks for all sockets of a family and protocol; uapi/linux/unix_diag.h, uapi/linux/inet_diag.h. */
function sockDiag(family: number, protocol: number): void {
  const body = Buffer.alloc(family === AF_UNIX ? UNIX_DIAG_REQ_BYTES : INET_DIAG_REQ_BYTES);
  body.writeUInt8(family, 0);
  body.writeUInt8(protocol, 1);
  body.writeUInt32LE(0xffff_ffff, 4);
  const request = encodeMessage({ type: SOCK_DIAG_BY_FAMILY, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence: 1, body });
  withFds(
    () => [openNetlink(NETLINK_SOCK_DIAG)],
    (fd = -1) => void exchange(fd, request, `sock_diag of family ${family}, protocol ${protocol}`),
  );
}

/** uapi/linux/rtnetlink.h, uapi/linux/net_namespace.h, uapi/linux/if_link.h. */
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_NEWNSID = 88;
const RTM_GETNSID = 90;
const NETNSA_NSID = 1;
const NETNSA_FD = 3;
const IFLA_IFNAME = 3;
const IFLA_LINKINFO = 18;
const IFLA_TARGET_NETNSID = 46;
const IFLA_INFO_KIND = 1;
const RTGENMSG = Buffer.alloc(4);

const ownNetns = () => openSync("/proc/self/ns/net", "r");

/** Runs `use` with a netlink socket that lives in a network namespace of its own. */
function withForeignNetlink(protocol: number, use: (fd: number) => void): void {
  withSandbox((thread) => {
    const remote = calls(thread, (p) => {
      p.call(SYS.unshare, CLONE_NEWNET).must();
      return p.call(SYS.socket, AF_NETLINK, SOCK_RAW, protocol).must();
    });
    withFdOf(thread, Number(remote.value), use);
  });
}

function namespaceId(): void {
  withFds(
    () => [openNetlink(NETLINK_ROUTE), ownNetns()],
    (fd = -1, netns = -1) => {
      const body = Buffer.concat([RTGENMSG, attribute(NETNSA_FD, u32(netns))]);
      const answers = exchange(fd, encodeMessage({ type: RTM_GETNSID, flags: NLM_F_REQUEST, sequence: 1, body }), "RTM_GETNSID");
      expect(
        answers.some(({ type }) => type === RTM_NEWNSID),
        "RTM_GETNSID is not answered",
      );
    },
  );
}

/** struct ifinfomsg */
function linkMessage(index: number, ...attributes: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(16);
  head.writeInt32LE(index, 4);
  return Buffer.concat([head, ...attributes]);
}

function expectLink(fd: number, body: Buffer, doing: string): void {
  const answers = exchange(fd, encodeMessage({ type: RTM_GETLINK, flags: NLM_F_REQUEST, sequence: 2, body }), doing);
  expect(
    answers.some(({ type }) => type === RTM_NEWLINK),
    `${doing} is not answered`,
  );
}

/** Links of another namespace, which is named by its id. */
function linkOfNamespaceId(): void {
  const id = u32(1);
  withForeignNetlink(NETLINK_ROUTE, (fd) =>
    withFds(ownNetnsList, (netns = -1) => {
      const body = Buffer.concat([RTGENMSG, attribute(NETNSA_NSID, id), attribute(NETNSA_FD, u32(netns))]);
      exchange(fd, encodeMessage({ type: RTM_NEWNSID, flags: NLM_F_REQUEST | NLM_F_ACK, sequence: 1, body }), "RTM_NEWNSID");
      expectLink(fd, linkMessage(1, attribute(IFLA_TARGET_NETNSID, id)), "RTM_GETLINK with IFLA_TARGET_NETNSID");
    }),
  );
}

const ownNetnsList = () => [ownNetns()];

/** A link gets the index that we choose. */
function chosenLinkIndex(): void {
  const index = 10;
  withForeignNetlink(NETLINK_ROUTE, (fd) => {
    const info = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, Buffer.from("veth\0")));
    const body = linkMessage(index, attribute(IFLA_IFNAME, Buffer.from("floe0\0")), info);
    const flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    exchange(fd, encodeMessage({ type: RTM_NEWLINK, flags, sequence: 1, body }), "RTM_NEWLINK with an index");
    expectLink(fd, linkMessage(index), `RTM_GETLINK of ${index}`);
  });
}

/** uapi/linux/netfilter/nfnetlink.h, nf_tables.h; numbers in attributes are big-endian. */
const NFT = 10 << 8;
const NFT_MSG_NEWTABLE = NFT | 0;
const NFT_MSG_NEWCHAIN = NFT | 3;
const NFT_MSG_NEWGEN = NFT | 15;
const NFT_MSG_GETGEN = NFT | 16;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const NFPROTO_INET = 1;

/** struct nfgenmsg */
function nfgenmsg(family: number, resource = 0): Buffer {
  return Buffer.from([family, 0, resource >> 8, resource & 0xff]);
}

function nftables(): void {
  withFds(
    () => [openNetlink(NETLINK_NETFILTER)],
    (fd = -1) => {
      const request = encodeMessage({ type: NFT_MSG_GETGEN, flags: NLM_F_REQUEST, sequence: 1, body: nfgenmsg(0) });
      expect(
        exchange(fd, request, "NFT_MSG_GETGEN").some(({ type }) => type === NFT_MSG_NEWGEN),
        "nf_tables does not answer",
      );
    },
  );
}

/** A table with a chain that would see incoming packets: what holding traffic back takes. */
function nftablesLock(): void {
  const table = Buffer.from("floe\0");
  const be32 = (value: number) => Buffer.from([value >>> 24, value >>> 16, value >>> 8, value].map((byte) => byte & 0xff));
  const hook = Buffer.concat([attribute(1, be32(1)), attribute(2, be32(0))]);
  const chain = [attribute(1, table), attribute(3, Buffer.from("in\0")), attribute(4, hook), attribute(7, Buffer.from("filter\0"))];
  const make = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
  const batch = [
    { type: NFNL_MSG_BATCH_BEGIN, flags: NLM_F_REQUEST, body: nfgenmsg(0, NFT >> 8) },
    { type: NFT_MSG_NEWTABLE, flags: make, body: Buffer.concat([nfgenmsg(NFPROTO_INET), attribute(1, table)]) },
    { type: NFT_MSG_NEWCHAIN, flags: make, body: Buffer.concat([nfgenmsg(NFPROTO_INET), ...chain]) },
    { type: NFNL_MSG_BATCH_END, flags: NLM_F_REQUEST, body: nfgenmsg(0, NFT >> 8) },
  ];
  const bytes = Buffer.concat(batch.map((message, i) => encodeMessage({ ...message, sequence: i + 1 })));
  withForeignNetlink(NETLINK_NETFILTER, (fd) => {
    expect(
      exchange(fd, bytes, "making a table and a chain of nf_tables").length === 2,
      "nf_tables did not acknowledge a table and a chain",
    );
  });
}

/** uapi/linux/if_tun.h */
const TUNSETIFF = 0x400454ca;
const TUNGETIFF = 0x800454d2n;
const IFF_TUN_NO_PI = 0x1001;
const IFREQ_BYTES = 40;

function tun(asksNamespace: boolean): void {
  withSandbox((thread) =>
    calls(thread, (p) => {
      p.call(SYS.unshare, CLONE_NEWNET).must();
      const fd = p.call(SYS.open, p.cstring("/dev/net/tun"), 2, 0).must('open("/dev/net/tun")');
      const request = Buffer.alloc(IFREQ_BYTES);
      request.write("floe0", 0);
      request.writeUInt16LE(IFF_TUN_NO_PI, 16);
      p.call(SYS.ioctl, fd, TUNSETIFF, p.inOut(request)).must("TUNSETIFF");
      p.call(SYS.ioctl, fd, TUNGETIFF, p.buffer(IFREQ_BYTES)).must("TUNGETIFF");
      if (asksNamespace) p.call(SYS.ioctl, fd, SIOCGSKNS, 0).must("SIOCGSKNS");
    }),
  );
}

/** Whether one of the iptables programs works the old way, without nf_tables. */
function legacyIptables(): void {
  const isLegacy = ["iptables-save", "iptables-legacy-save"].some((program) => {
    const { status, stdout } = spawnSync(program, ["-V"], { encoding: "utf8" });
    return status === 0 && !stdout.includes("nf_tables");
  });
  expect(isLegacy, "neither iptables-save nor iptables-legacy-save works without nf_tables");
}

/** Not the kernel's: what this version of Floe does not do. */
function notBuilt(what: string): () => void {
  return () => {
    throw new Lacking(`this version of Floe does not have ${what}`);
  };
}

export const requiredNetwork: readonly Probe[] = [
  { name: "sock_diag", attempt: () => sockDiag(AF_UNIX, 0) },
  { name: "SO_PEEK_OFF", attempt: peekOffset },
  { name: "TCP_REPAIR", attempt: tcpRepair },
  { name: "getters of sockets", attempt: socketGetters },
];

export const networkFeatures: readonly Probe[] = [
  { name: "tun", attempt: () => tun(false) },
  { name: "tun_ns", attempt: () => tun(true) },
  { name: "tcp_half_closed", attempt: repairHalfClosed },
  {
    name: "sk_ns",
    attempt: () =>
      withFds(
        () => [socket(UDP)],
        (fd = -1) => close(ioctl(fd, SIOCGSKNS, "SIOCGSKNS")),
      ),
  },
  { name: "sk_unix_file", attempt: fileOfUnixSocket },
  { name: "net_diag_raw", attempt: () => sockDiag(AF_INET, IPPROTO_RAW) },
  { name: "nsid", attempt: namespaceId },
  { name: "link_nsid", attempt: linkOfNamespaceId },
  { name: "external_net_ns", attempt: notBuilt("--external net[…]") },
  { name: "newifindex", attempt: chosenLinkIndex },
  { name: "nftables", attempt: nftables },
  { name: "has_ipt_legacy", attempt: legacyIptables },
  { name: "network_lock_nftables", attempt: nftablesLock },
  {
    name: "sockopt_buf_lock",
    attempt: () =>
      withFds(
        () => [socket(UDP)],
        (fd = -1) => void getsockoptInt(fd, { level: SOL_SOCKET, name: SO_BUF_LOCK }),
      ),
  },
  {
    name: "ipv6_freebind",
    attempt: () =>
      withFds(
        () => [socket({ family: AF_INET6, type: SOCK_DGRAM | SOCK_CLOEXEC })],
        (fd = -1) => setsockoptInt(fd, { level: IPPROTO_IPV6, name: IPV6_FREEBIND }, 1),
      ),
  },
];
