/**
 * Image messages: eventpoll_tfd_entry, eventpoll_file_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const eventpollTfdEntry = message("eventpoll_tfd_entry", () => ({
  id: required.uint32(1),
  tfd: required.uint32(2),
  events: required.uint32(3),
  data: required.uint64(4),
  dev: optional.uint32(5),
  inode: optional.uint64(6),
  pos: optional.uint64(7),
  /** Number that the target was added under, where `tfd`, at which it can be found now, is another. */
  added_as: optional.uint32(1000, { floe: true }),
  /** Process in which `tfd` is the target, where that is not the first one to hold the epoll. */
  holder: optional.int32(1001, { floe: true }),
}));
export type EventpollTfdEntry = Infer<typeof eventpollTfdEntry>;

export const eventpollFileEntry = message("eventpoll_file_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2),
  fown: required.message(3, () => fownEntry),
  tfd: repeated.message(4, () => eventpollTfdEntry),
  /** Floe's own: how it polls devices of the network itself (EPIOCSPARAMS), where that was set. */
  busy_poll_usecs: optional.uint32(1000, { floe: true }),
  busy_poll_budget: optional.uint32(1001, { floe: true }),
  prefer_busy_poll: optional.uint32(1002, { floe: true }),
}));
export type EventpollFileEntry = Infer<typeof eventpollFileEntry>;
