/**
 * TCP sockets with something that cannot be read back: a protocol above them in the kernel (TLS), keys to sign segments with.
 */
import { Refusal } from "../../errors.js";
import { AF_INET, AF_INET6 } from "../../linux/addresses.js";
import { signedByMd5 } from "../../linux/sock-diag.js";
import { AO_INFO_BYTES, TCP_AO_INFO, TCP_ULP, ULP_NAME_BYTES } from "../../linux/tcp.js";
import type { DumpSession, OpenFile } from "../part.js";
import type { Asked } from "./asked.js";

type Stop = (code: string, because: string, ...remedy: [string, ...string[]]) => void;

const KEYS = "segments are signed with keys that are not saved";
const NO_KEYS = "Let the program close its signed connections before the dump";

/** A socket whose keys are asked for later. */
interface Waiting {
  readonly pid: number;
  readonly comm: string;
  readonly fd: number;
  readonly title: () => string;
}
const waiting = new WeakMap<DumpSession, Map<number, Waiting>>();

/** Nobody else knows the option. */
const isSigned = (asked: Asked) => asked.bytes(TCP_AO_INFO, AO_INFO_BYTES) !== undefined;

/** Reports what keeps a TCP socket from being carried. */
export function refuseUnreadable(
  file: OpenFile,
  { asked, title, session, stop }: { asked: Asked; title: () => string; session: DumpSession; stop: Stop },
): void {
  const above = (asked.bytes(TCP_ULP, ULP_NAME_BYTES) ?? Buffer.alloc(0)).toString("latin1").replace(/\0.*$/s, "");
  // Multipath TCP has no state above a socket without connection.
  if (above !== "" && above !== "mptcp")
    stop(
      "TCP_ULP",
      `the kernel runs the protocol "${above}" above it, whose state and keys cannot be read`,
      "Let the program do without TLS in the kernel (kTLS)",
      "Have the connection closed or broken off with --tcp-policy",
    );
  if (isSigned(asked)) stop("TCP_SIGNED", `${KEYS} (TCP-AO)`, NO_KEYS);
  const known = waiting.get(session);
  const { traced, comm } = file.task;
  const socket = { pid: traced.pid, comm, fd: file.fd, title };
  if (known !== undefined) {
    known.set(Number(file.stat.ino), socket);
    return;
  }
  const sockets = new Map([[Number(file.stat.ino), socket]]);
  waiting.set(session, sockets);
  // One question about all sockets; it can wait until the tree need not stand still for it.
  session.later(() => refuseSigned(sockets));
}

function refuseSigned(sockets: ReadonlyMap<number, Waiting>): void {
  for (const family of [AF_INET, AF_INET6]) {
    for (const inode of signedByMd5(family)) {
      const socket = sockets.get(inode);
      if (socket === undefined) continue;
      const { pid, comm, fd, title } = socket;
      throw new Refusal({
        code: "TCP_SIGNED",
        process: { pid, comm },
        resource: `fd ${fd}, ${title()}`,
        because: `${KEYS} (TCP_MD5SIG)`,
        remedy: [NO_KEYS],
      });
    }
  }
}
