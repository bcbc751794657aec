/**
 * Multicast groups that datagram and raw sockets are in.
 *
 * Read from   /proc/PID/net/igmp and igmp6, which say what groups there are on each device; getsockopt(MCAST_MSFILTER), which
 *             says whether a socket is in one of them, and from which sources it hears it
 * Made with   setsockopt(MCAST_JOIN_GROUP, MCAST_MSFILTER), on the device of the same name
 * Not kept    IPv6 anycast addresses (IPV6_JOIN_ANYCAST): the kernel does not tell whose they are
 */
import { KernelError } from "../../errors.js";
import { AF_INET6 } from "../../linux/addresses.js";
import { type DeviceGroup, joinGroup, parseIgmp, parseIgmp6, sourceFilter } from "../../linux/multicast.js";
import { interfaceIndex } from "../../linux/packet.js";
import { readProc } from "../../linux/proc/read.js";
import type { DumpSession, DumpTask, Fd } from "../part.js";
import type { Membership } from "./inet.schema.js";

const known = new WeakMap<DumpSession, { inet: DeviceGroup[]; inet6: DeviceGroup[] }>();

function groupsOfDevices(session: DumpSession, task: DumpTask): { inet: DeviceGroup[]; inet6: DeviceGroup[] } {
  let groups = known.get(session);
  if (groups === undefined) {
    groups = { inet: parseIgmp(text(task, "igmp")), inet6: parseIgmp6(text(task, "igmp6")) };
    known.set(session, groups);
  }
  return groups;
}

/** The text of a file that a kernel without multicast, or without IPv6, does not have. */
function text({ traced }: DumpTask, name: string): string {
  try {
    return readProc(`/proc/${traced.pid}/net/${name}`).toString("latin1");
  } catch (error) {
    if (error instanceof KernelError) return "";
    throw error;
  }
}

/** The groups that a socket is in; one of IPv6 may be in groups of IPv4 too. */
export function readMemberships(fd: Fd, { family, session, task }: { family: number; session: DumpSession; task: DumpTask }): Membership[] {
  const { inet, inet6 } = groupsOfDevices(session, task);
  return [...inet, ...(family === AF_INET6 ? inet6 : [])].flatMap((of) => {
    const filter = sourceFilter(fd, of);
    return filter === undefined ? [] : [{ ...of, mode: filter.mode, sources: [...filter.sources] }];
  });
}

/** Joins the groups again. */
export function joinAgain(fd: Fd, memberships: readonly Membership[]): void {
  for (const { device, group, mode, sources } of memberships) {
    const ifindex = interfaceIndex(fd, device);
    if (ifindex === undefined) throw new Error(`internal error: the device "${device}" was looked for and is not there`);
    joinGroup(fd, { ifindex, group: Buffer.from(group), mode, sources: sources.map((s) => Buffer.from(s)) });
  }
}

/** The first device of the memberships that there is not. */
export function missingDevice(fd: Fd, memberships: readonly Membership[]): string | undefined {
  return memberships.find(({ device }) => interfaceIndex(fd, device) === undefined)?.device;
}
