/**
 * Sockets as the kernel has them in its memory: what no system call tells (`linux/kernel-sockets.ts`).
 *
 * Getting ready takes some 15 ms, so it is done before the freeze where a process of the tree has a socket for which it is needed.
 */
import { readFileSync } from "node:fs";
import { readlinkSync } from "../../linux/named-files.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { KernelSockets } from "../../linux/kernel-sockets.js";
import { socketProtocol } from "../../linux/xattr.js";

/** What parts need to know of, beside what every socket has. */
const STRUCTS = {
  inet_sock: ["cork", "mc_index", "pinet6?"],
  inet_cork_full: ["base", "fl"],
  inet_cork: ["flags", "addr", "length", "ttl", "tos", "gso_size"],
  flowi_common: ["flowic_oif"],
  flowi4: ["saddr", "daddr", "uli"],
  flowi6: ["saddr", "daddr", "flowlabel", "uli"],
  ipv6_pinfo: ["cork"],
  inet6_cork: ["opt", "hop_limit", "tclass"],
  sock_reuseport: ["num_socks", "prog", "socks"],
  bpf_prog: ["orig_prog"],
  sock_fprog_kern: ["len", "filter"],
  xfrm_policy: ["priority", "selector", "lft", "action", "flags", "xfrm_nr"],
  netlink_skb_parms: ["portid", "dst_group"],
  unix_sock: ["addr", "peer", "oob_skb"],
  unix_address: ["len", "name"],
  unix_skb_parms: ["pid", "uid", "gid", "fp"],
  scm_fp_list: ["count", "fp"],
  pid: ["level", "numbers"],
  upid: ["nr", "ns"],
  inode: ["i_private"],
  cred: ["euid", "egid", "group_info"],
  group_info: ["ngroups", "gid"],
  sock_exterr_skb: ["ee", "addr_offset", "port"],
  udp_sock: ["pending", "len", "gso_size", "reader_queue"],
} as const;

/** Names of protocols as the kernel has them (struct proto). */
const WANTED = /^(UDP|RAW|TCP|MPTCP|NETLINK|PING)/;
/** The same of sockets that matter only when they listen: what was sent to them before anybody accepted it (unix-unseen.ts). */
const WANTED_LISTENING = /^UNIX/;
/** Flags in /proc/net/unix: __SO_ACCEPTCON, linux/net.h. */
const ACCEPTING = 1 << 16;
/** With more descriptors than this nobody looks what they are. */
const MOST_DESCRIPTORS = 2000;

let sockets: KernelSockets | undefined;
let wasTried = false;

/** Undefined where the kernel does not let us look. */
export function kernelSockets(): KernelSockets | undefined {
  if (!wasTried) sockets = KernelSockets.open(STRUCTS);
  wasTried = true;
  return sockets;
}

/** Gets ready if there is something to look at. */
export function prepareLook(pids: readonly number[]): void {
  if (!wasTried && needsLook(pids)) kernelSockets();
}

function needsLook(pids: readonly number[]): boolean {
  let seen = 0;
  for (const pid of pids) {
    const local: string[] = [];
    try {
      for (const fd of readFdNumbers(pid)) {
        if (++seen > MOST_DESCRIPTORS) return true;
        const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? [];
        if (inode === undefined) continue;
        const protocol = socketProtocol(`/proc/${pid}/fd/${fd}`) ?? "";
        if (WANTED.test(protocol)) return true;
        if (WANTED_LISTENING.test(protocol)) local.push(inode);
      }
      if (local.length > 0 && listening(pid).some((inode) => local.includes(inode))) return true;
    } catch {
      // It has ended, or closes what it had.
    }
  }
  return false;
}

/** Inodes of the UNIX sockets that listen, in the network namespace of a process. */
function listening(pid: number): string[] {
  const lines = readFileSync(`/proc/${pid}/net/unix`, "latin1").split("\n").slice(1);
  // Num RefCount Protocol Flags Type St Inode Path
  const fields = lines.map((line) => line.trim().split(/\s+/));
  return fields.flatMap(([, , , flags = "0", , , inode]) =>
    (Number.parseInt(flags, 16) & ACCEPTING) !== 0 && inode !== undefined ? [inode] : [],
  );
}
