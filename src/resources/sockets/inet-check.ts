/**
 * What certainly keeps an IPv4 or IPv6 socket from being made again: addresses, ports, devices, routes, what is allowed.
 */
import { closeSync } from "node:fs";
import { ImageError, KernelError, Refusal } from "../../errors.js";
import { type SocketAddress, decodeAddress } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import { ipText } from "../../linux/ip-text.js";
import { interfaceIndex } from "../../linux/packet.js";
import { SOCKET_STATE, connectionInode } from "../../linux/sock-diag.js";
import { SO, bindToDevice } from "../../linux/socket-options.js";
import { SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, bind, connect, setsockoptInt, socket } from "../../linux/sockets.js";
import type { FileUse, Problem, RestoreSession } from "../part.js";
import { addressOf, placed, placedAddress } from "./inet-address.js";
import { canBindAnywhere, setAnywhere } from "./inet-options.js";
import type { InetSkEntry } from "./inet.schema.js";
import { IPPROTO_MPTCP, bound, hasPeer, isCarried, isOver, isTcp, isUdp } from "./inet-socket.js";
import { allowsPing, isPing } from "./raw.js";
import { missingDevice } from "./memberships.js";
import { hasConnection } from "./tcp-connection.js";
import { fateAtRestore, isInside } from "./tcp-policy.js";
import { TCP_STATE, isConnection } from "./tcp-states.js";

/** States of TCP sockets that need no image of a connection. */
const UNCONNECTED: readonly number[] = [SOCKET_STATE.LISTEN, SOCKET_STATE.CLOSE, TCP_STATE.SYN_SENT];

type InetAddress = Extract<SocketAddress, { family: "inet" | "inet6" }>;

function inetAddressOf(entry: InetSkEntry, which: "src" | "dst"): InetAddress | undefined {
  const address = addressOf(entry, which);
  return address?.family === "inet" || address?.family === "inet6" ? address : undefined;
}

const badImage = (field: string | undefined, because: string, code = "IMAGE_BAD_VALUE") => [
  new ImageError({
    code,
    place: { file: "files.img", message: "inet_sk_entry", ...(field === undefined ? {} : { field }) },
    because,
    remedy: ["Dump the process again"],
  }),
];

export function checkInet(saved: InetSkEntry, session: RestoreSession, use: FileUse): Problem[] {
  const entry = placed(saved, session);
  const { family, type, proto } = entry;
  if (!isCarried({ family, type, proto }))
    return badImage(undefined, `sockets of family ${family}, type ${type}, protocol ${proto} are not restored`, "SOCKET_UNSUPPORTED");
  if (isOver(entry)) return [];
  const asker = new Asker(entry, session, use);
  if (isTcp(entry) && !UNCONNECTED.includes(entry.state)) return asker.connection(saved);
  const fate = entry.state === TCP_STATE.SYN_SENT ? fateAtRestore(entry, session) : "keep";
  return fate === "close" || fate === "reset" ? [] : [...asker.device(), ...asker.address(), ...asker.route()];
}

const IPPROTO_UDP = 17;

function nameOf(entry: InetSkEntry): string {
  if (isTcp(entry)) return entry.proto === IPPROTO_MPTCP ? "MPTCP" : "TCP";
  if (isUdp(entry)) return entry.proto === IPPROTO_UDP ? "UDP" : "UDP-Lite";
  return isPing(entry) ? "ping" : "raw";
}

/** Asks the kernel about one socket, by trying. */
class Asker {
  readonly #entry: InetSkEntry;
  readonly #session: RestoreSession;
  readonly #use: FileUse;
  readonly #own: InetAddress | undefined;
  readonly #peer: InetAddress | undefined;

  constructor(entry: InetSkEntry, session: RestoreSession, use: FileUse) {
    this.#entry = entry;
    this.#session = session;
    this.#use = use;
    this.#own = inetAddressOf(entry, "src");
    this.#peer = entry.dst_port !== 0 || hasPeer(entry) ? inetAddressOf(entry, "dst") : undefined;
  }

  #refuse(code: string, because: string, ...remedy: [string, ...string[]]): Problem[] {
    const name = nameOf(this.#entry);
    const at = this.#own === undefined || this.#own.port === 0 ? "" : ` at ${ipText(this.#own.address)}:${this.#own.port}`;
    const resource = `${this.#use.what} ${name} socket${at}`;
    return [new Refusal({ code, process: this.#use.process, resource, because, remedy }, "restore")];
  }

  /** `saved`: with the addresses that it had. */
  connection(saved: InetSkEntry): Problem[] {
    const entry = this.#entry;
    if (!isConnection(entry.state)) return badImage("state", `state ${entry.state} is none of a connection`);
    const fate = fateAtRestore(entry, this.#session);
    if (fate === "close" || fate === "reset") return [];
    if (fate === "unsaid")
      return this.#refuse(
        "TCP_CONNECTED",
        "it is a TCP connection",
        "Allow connections with --tcp-established",
        "Say what to do with each by --tcp-policy",
        "Let the program close its connections first",
      );
    if (!hasConnection(entry, this.#session)) return badImage("ino", `there is no image of connection ${entry.ino}`, "IMAGE_BAD_REFERENCE");
    return [...this.#moved(saved), ...this.device(), ...this.#connectionAddress(), ...this.#twin(), ...this.route()];
  }

  /** The other end of a connection knows nothing of a new address. */
  #moved(saved: InetSkEntry): Problem[] {
    const isSame = (["src_addr", "dst_addr"] as const).every((field) => saved[field].join() === this.#entry[field].join());
    if (isSame || isInside(this.#entry, this.#session)) return [];
    return this.#refuse(
      "TCP_MOVED",
      `it is a connection to ${this.#peerText()}, outside the images, which would have another address by --map-ip`,
      "Have it come back closed or broken off with --tcp-policy close or --tcp-policy reset, for all connections or for its port",
    );
  }

  #peerText(): string {
    return this.#peer === undefined ? "?" : `${ipText(this.#peer.address)}:${this.#peer.port}`;
  }

  device(): Problem[] {
    const name = this.#entry.opts.so_bound_dev;
    const multicast = this.#entry.multicast_device;
    if (name === undefined && this.#entry.memberships.length === 0 && multicast === undefined) return [];
    const fd = socket({ family: this.#entry.family, type: SOCK_DGRAM | SOCK_CLOEXEC });
    try {
      const missing = missingDevice(fd, this.#entry.memberships);
      if (missing !== undefined)
        return this.#refuse(
          "DEVICE_MISSING",
          `it is in a multicast group on the network device "${missing}", which there is not`,
          `Make the device "${missing}"`,
        );
      if (multicast !== undefined && interfaceIndex(fd, multicast) === undefined)
        return this.#refuse(
          "DEVICE_MISSING",
          `it sends to multicast groups over the network device "${multicast}", which there is not`,
          `Make the device "${multicast}"`,
        );
      if (name !== undefined) bindToDevice(fd, name);
      return [];
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      return this.#refuse("DEVICE_MISSING", `it is bound to the network device "${name}", which there is not`, `Make the device "${name}"`);
    } finally {
      closeSync(fd);
    }
  }

  /** Whether a socket without connection can have its address and port. */
  address(): Problem[] {
    if (isPing(this.#entry) && !allowsPing())
      return this.#refuse(
        "PING_GROUPS",
        "no group may have ping sockets here",
        'Allow them with "sysctl -w net.ipv4.ping_group_range=..."',
      );
    if (this.#own === undefined || this.#own.port === 0) return [];
    try {
      closeSync(bound(this.#entry));
      return [];
    } catch (error) {
      return this.#noAddress(error);
    }
  }

  #noAddress(error: unknown): Problem[] {
    if (!(error instanceof KernelError)) throw error;
    const because: Readonly<Record<number, string>> = {
      [ERRNO.EADDRINUSE]: "its port is in use",
      [ERRNO.EADDRNOTAVAIL]: "no interface has its address",
    };
    return this.#refuse(
      "ADDRESS_UNAVAILABLE",
      because[error.errno] ?? error.message,
      "End the program that uses the port, or give the machine the address",
      "Give it another address with --map-ip",
      "Restore in a network namespace of its own",
    );
  }

  /** The port of a connection may be shared: by the socket that accepted it, for example. */
  #connectionAddress(): Problem[] {
    const own = this.#own;
    if (own === undefined) return [];
    const fd = this.#probe();
    try {
      bind(fd, { ...own, port: 0 });
      return [];
    } catch (error) {
      return this.#noAddress(error);
    } finally {
      closeSync(fd);
    }
  }

  /** A connection with the same ends, which is alive: the dumped program still runs, for example. */
  #twin(): Problem[] {
    const device = this.#own?.family === "inet6" ? this.#own.scopeId : 0;
    if (this.#own === undefined || this.#peer === undefined || connectionInode(this.#own, this.#peer, device) === undefined) return [];
    return this.#refuse(
      "ADDRESS_UNAVAILABLE",
      `there is a connection between the same ends (to ${this.#peerText()}) now`,
      "End the program that has the connection",
      "Restore in a network namespace of its own",
    );
  }

  /** Whether any way leads to the other end: connect(2) of a datagram socket looks, and sends nothing. */
  route(): Problem[] {
    const corked = this.#entry.cork === undefined ? undefined : decodeAddress(Buffer.from(this.#entry.cork.to));
    const to = corked === undefined ? undefined : placedAddress(corked, this.#session);
    const isInet = to?.family === "inet" || to?.family === "inet6";
    return [
      ...this.#routeTo(this.#peer, "its other end"),
      ...this.#routeTo(isInet ? to : undefined, "where its unfinished datagram goes,"),
    ];
  }

  #routeTo(peer: InetAddress | undefined, what: string): Problem[] {
    const own = this.#own;
    if (peer === undefined) return [];
    const fd = this.#probe();
    try {
      if (own !== undefined) tryBind(fd, own);
      connect(fd, peer);
      return [];
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (![ERRNO.ENETUNREACH, ERRNO.EHOSTUNREACH].includes(error.errno as never)) return [];
      return this.#refuse(
        "ROUTE_MISSING",
        `no route leads to ${what} ${ipText(peer.address)}:${peer.port}`,
        `Add a route, as in "ip route add ${ipText(peer.address).replace(/[[\]]/g, "")} via GATEWAY"`,
      );
    } finally {
      closeSync(fd);
    }
  }

  /** A datagram socket with what decides about addresses and routes. */
  #probe(): number {
    const { family, opts } = this.#entry;
    const fd = socket({ family, type: SOCK_DGRAM | SOCK_CLOEXEC });
    try {
      if (canBindAnywhere(this.#entry)) setAnywhere(fd, family);
      if (opts.so_broadcast === true) setsockoptInt(fd, { level: SOL_SOCKET, name: SO.BROADCAST }, 1);
      if (opts.so_mark !== undefined) setsockoptInt(fd, { level: SOL_SOCKET, name: SO.MARK }, opts.so_mark | 0);
      if (opts.so_bound_dev !== undefined) bindToDevice(fd, opts.so_bound_dev);
    } catch (error) {
      // Without the device there is nothing to ask; that it is missing has been said.
      if (!(error instanceof KernelError)) throw error;
    }
    return fd;
  }
}

/** An address that cannot be had is a difference of its own. */
function tryBind(fd: number, address: InetAddress): void {
  try {
    bind(fd, { ...address, port: 0 });
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
  }
}
