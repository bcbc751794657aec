/**
 * UNIX sockets whose peer is outside the tree, as the user decides with --ext-unix-sk and --external.
 *
 *   unix[INODE]         connected anew by the name of that peer, or handed over at the restore: --inherit-fd fd[N]:socket:[OWN]
 *   unix[INODE]:close   comes back as one whose peer has closed, with what waits in it
 *   unix[], unix[]:close   the same for every peer outside
 *
 * --ext-unix-sk does the first for datagram sockets. A connection made anew is a new one for its server, and what waited in
 * the old one is lost.
 */
import { statSync } from "../../linux/named-files.js";
import { Refusal } from "../../errors.js";
import { findHolders, nameHolders } from "../../linux/proc/holders.js";
import { type UnixSocketInfo, SOCKET_STATE } from "../../linux/sock-diag.js";
import { SOCK_DGRAM } from "../../linux/sockets.js";
import type { DumpSession, FileUse } from "../part.js";
import { hasPath, isBound, pathOf } from "./unix-names.js";
import type { UnixSkEntry } from "./unix.schema.js";
import { textOf } from "../../linux/text.js";

/** What becomes of a connection to a peer outside the tree; undefined: it is refused. */
export type OutsideRule = "again" | "close" | undefined;

const RULE = /^unix\[(\d*)\](?::(.*))?$/;

/** What the user said about the socket with this inode, which is outside. */
export function ruleFor({ inode, type, name }: Pick<UnixSocketInfo, "inode" | "type" | "name">, { options }: DumpSession): OutsideRule {
  const rules = options.external.flatMap((text) => {
    const [, which, value] = RULE.exec(text) ?? [];
    return which === undefined ? [] : [{ which, rule: value === "close" ? ("close" as const) : ("again" as const) }];
  });
  const own = rules.find(({ which }) => which === String(inode)) ?? rules.find(({ which }) => which === "");
  const isListed = options.extUnixSk && (options.extUnixSkInodes.length === 0 || options.extUnixSkInodes.includes(inode));
  const rule = own?.rule ?? (isListed && type === SOCK_DGRAM ? "again" : undefined);
  // Datagram sockets are found again by their name, if it means the same everywhere.
  if (rule === "again" && type === SOCK_DGRAM && !meansTheSame(name)) return undefined;
  return rule;
}

function meansTheSame(name: Buffer | undefined): boolean {
  return name !== undefined && (name[0] === 0 || name[0] === "/".charCodeAt(0));
}

/** Whether a socket outside that is there now is the one that this entry tells of. */
export function findOutside(outside: UnixSkEntry, present: readonly UnixSocketInfo[]): UnixSocketInfo | undefined {
  const serves = (s: UnixSocketInfo) => s.type === outside.type && (s.type === SOCK_DGRAM || s.state === SOCKET_STATE.LISTEN);
  if (!isBound(outside)) return undefined;
  if (!hasPath(outside)) return present.find((s) => serves(s) && s.name?.equals(Buffer.from(outside.name)) === true);
  if (!meansTheSame(Buffer.from(outside.name))) return undefined;
  const there = statSync(pathOf(outside), { bigint: true, throwIfNoEntry: false });
  if (there === undefined) return undefined;
  const inode = Number(there.ino & 0xffff_ffffn);
  return present.find((s) => serves(s) && s.name !== undefined && s.node?.inode === inode);
}

/** Who has sockets outside. All are looked for when somebody asks first: when the tree has been let go. */
export class OutsideHolders {
  #found: ReturnType<typeof findHolders> | undefined;

  /** As a clause; undefined where no process is found: it is in flight, or of another pid namespace. */
  describe(inode: number): string | undefined {
    this.#found ??= findHolders("socket:[");
    const names = nameHolders(this.#found.get(`socket:[${inode}]`) ?? []);
    return names && `that one is open in process ${names}`;
  }
}

/** A peer outside that is not there any more. */
export function missingPeer(outside: UnixSkEntry, own: UnixSkEntry, use: FileUse): Refusal {
  const name = textOf(Buffer.from(outside.name)).replace(/^\0/, "@").replace(/\0$/, "");
  return new Refusal(
    {
      code: "UNIX_PEER_MISSING",
      process: use.process,
      resource: `${use.what} UNIX socket ${own.ino}`,
      because:
        name === ""
          ? `its peer outside (inode ${outside.ino}) has no name by which it could be connected again`
          : `nothing ${outside.type === SOCK_DGRAM ? "has" : "listens at"} the name "${name}" of its peer outside`,
      remedy: [
        `Hand over a socket for it: --inherit-fd fd[N]:socket:[${own.ino}]`,
        ...(name === "" ? [] : ["Start the program that has this name"]),
        `Dump with --external unix[${outside.ino}]:close, so that it comes back as closed by its peer`,
      ],
    },
    "restore",
  );
}
