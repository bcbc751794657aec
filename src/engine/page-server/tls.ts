/**
 * TLS around a connection of pages: done by a process of its own, which has an event loop (tls-relay.ts). What the engine gets
 * is one end of a pair of sockets, over which the same bytes go unencrypted.
 */
import { UsageError } from "../../errors.js";
import { AF_UNIX } from "../../linux/addresses.js";
import { close } from "../../linux/files.js";
import { SOCK_CLOEXEC, SOCK_STREAM, socketpair } from "../../linux/sockets.js";
import { readWhole } from "../../linux/streams.js";
import { startBackground } from "../background.js";
import { SILENCE_MS, type TlsOptions } from "./options.js";

export interface RelayOrder {
  /** The connection itself. */
  readonly outer: number;
  /** The socket of the relay, whose other end the engine has. */
  readonly inner: number;
  readonly role: "client" | "server";
  readonly tls: TlsOptions;
  /** The address that was dialled. */
  readonly name: string | undefined;
}

const REASON_BYTES = 4096;

/** Secures connection `fd`, which is closed here; returns the descriptor of the same stream in the clear. */
export function secured(fd: number, as: { role: "client" | "server"; tls: TlsOptions; name: string | undefined }): number {
  const [own, inner] = socketpair({ family: AF_UNIX, type: SOCK_STREAM | SOCK_CLOEXEC });
  try {
    const order: RelayOrder = { outer: fd, inner, ...as };
    startBackground("tls-relay", order, [fd, inner]);
  } finally {
    close(fd);
    close(inner);
  }
  // The relay says 0 when both ends know each other, or 1 and why not.
  const verdict = Buffer.alloc(1);
  const patience = { timeoutMs: SILENCE_MS };
  const said = readWhole(own, verdict, patience);
  if (said === 1 && verdict[0] === 0) return own;
  const reason = Buffer.alloc(REASON_BYTES);
  const length = said === 0 ? 0 : readWhole(own, reason, patience);
  close(own);
  throw new UsageError({
    code: "TLS_FAILED",
    message: `Cannot secure the connection: ${length === 0 ? "the process for it ended" : reason.toString("utf8", 0, length)}`,
    remedy: ["Look at --tls-cacert, --tls-cacrl, --tls-cert and --tls-key on both ends", "The name is not checked with --tls-no-cn-verify"],
  });
}
