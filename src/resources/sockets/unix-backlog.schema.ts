/**
 * Image messages of Floe's own: floe_unix_sent, floe_unix_waiting.
 *
 * floe-unix-backlog.img has one record for each connection that waits at a listening socket, in their order.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { floeSkCredentials } from "./queue.schema.js";
import { floeUnixPeer } from "./unix.schema.js";

/** A message that the client has sent. */
export const floeUnixSent = message("floe_unix_sent", () => ({
  data: required.bytes(1),
  credentials: optional.message(2, () => floeSkCredentials),
  urgent: optional.bool(3),
  /** Ids of open files: SCM_RIGHTS. */
  rights: repeated.uint32(4),
}));

export const floeUnixWaiting = message("floe_unix_waiting", () => ({
  /** Id of the listening socket. */
  listener: required.uint32(1),
  /** Inode of the client; 0: it is closed. */
  client: required.uint32(2),
  connector: optional.message(3, () => floeUnixPeer),
  /** Name of a client that is closed. */
  name: optional.bytes(4),
  sent: repeated.message(5, () => floeUnixSent),
}));
export type FloeUnixWaiting = Infer<typeof floeUnixWaiting>;
