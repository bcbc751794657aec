/**
 * Messages that wait at netlink sockets.
 *
 * Read from   the kernel's memory: only the first can be looked at by recvmsg(2), as a netlink socket has no SO_PEEK_OFF
 * Made with   sendmsg(2) from a socket with the port of the sender
 * Not kept    what the kernel sent: its port is 0, and a socket of a process never has it (bind(2) to port 0 gives another); what
 *             was sent to a group, since others would hear it again
 */
import { closeSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { AF_NETLINK, type SocketAddress } from "../../linux/addresses.js";
import { SOCK_CLOEXEC, SOCK_RAW, bind, sendmsg, socket } from "../../linux/sockets.js";
import type { Fd, RestoreSession } from "../part.js";
import type { NetlinkSkEntry } from "./netlink.schema.js";
import { liftLimits } from "./options.js";
import type { QueuedMessage } from "./peek.js";
import { savedQueues, senderOf } from "./queue.js";
import { kernelSockets } from "./unseen.js";

/** What waits, in order: messages that can be kept; how many there are beside them, or that this cannot be seen. */
export interface NetlinkQueue {
  readonly kept: readonly QueuedMessage[];
  readonly others: number | "unknown";
}

export function readNetlinkQueue(fd: Fd): NetlinkQueue {
  const kernel = kernelSockets();
  const address = kernel?.has("netlink_skb_parms") === true ? kernel.find(fd) : undefined;
  const queue = address === undefined ? undefined : kernel?.queue(address + BigInt(kernel.at("sock", "sk_receive_queue")));
  if (kernel === undefined || queue === undefined) return { kept: [], others: "unknown" };
  const kept: QueuedMessage[] = [];
  for (const one of queue) {
    const buffer = kernel.buffer(one);
    const word = (member: string) => buffer?.control.readUInt32LE(kernel.at("netlink_skb_parms", member)) ?? 0;
    if (buffer === undefined || word("portid") === 0 || word("dst_group") !== 0) continue;
    const data = Buffer.concat([buffer.memory.subarray(buffer.data), buffer.pages]);
    kept.push({ data, fds: [], from: { family: "netlink", portId: word("portid"), groups: 0 }, credentials: undefined, unknown: [] });
  }
  return { kept, others: queue.length - kept.length };
}

/** Fills the queue of a socket that has its port, and nothing else yet. `made`: sockets of the tree that have theirs, by protocol and port. */
export function refillNetlink(
  fd: Fd,
  entry: NetlinkSkEntry,
  { made, session }: { made: ReadonlyMap<string, Fd>; session: RestoreSession },
): void {
  const queue = savedQueues(session).get(entry.id) ?? [];
  if (queue.length > 0) liftLimits(fd);
  for (const message of queue) {
    const from = senderOf(message);
    if (from?.family !== "netlink") continue;
    try {
      sendFrom(message.data, { from, to: { family: "netlink", portId: entry.portid, groups: 0 }, protocol: entry.protocol, made });
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      session.warn(
        `a message from port ${from.portId} that waited at the netlink socket with port ${entry.portid} is lost: ${error.message}`,
      );
    }
  }
}

export const netlinkKey = (protocol: number, portId: number) => `${protocol}/${portId}`;

function sendFrom(
  data: Buffer,
  {
    from,
    to,
    protocol,
    made,
  }: { from: SocketAddress & { family: "netlink" }; to: SocketAddress; protocol: number; made: ReadonlyMap<string, Fd> },
): void {
  const own = made.get(netlinkKey(protocol, from.portId));
  const sender = own ?? socket({ family: AF_NETLINK, type: SOCK_RAW | SOCK_CLOEXEC, protocol });
  try {
    if (own === undefined) bind(sender, from);
    sendmsg(sender, data, { to });
  } finally {
    if (own === undefined) closeSync(sender);
  }
}
