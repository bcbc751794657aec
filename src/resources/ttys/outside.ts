/**
 * Terminals that stay outside the images because the user says so: --external tty[RDEV:DEV] at the dump, and another terminal
 * at the restore, by --inherit-fd fd[N]:tty[RDEV:DEV]. RDEV and DEV are hexadecimal, as stat(2) has them.
 *
 * Read from   fstat(2), tty ioctls: ioctl_tty(2)
 * Made with   the descriptor that was handed over; TIOCSCTTY in the leader of a session of the tree whose terminal it was
 */
import { Refusal } from "../../errors.js";
import { fromTtyNumber, toStatDevice } from "../../linux/device-numbers.js";
import { readStat } from "../../linux/proc/read.js";
import { isatty, tiocgsid } from "../../linux/terminals.js";
import { isExternal } from "../files/inherit.js";
import { insideGroup, insideSession } from "../tasks/pid-numbers.js";
import type { DumpSession, DumpTask, Fd, FileUse, OpenFile, Problem, RestoreSession } from "../part.js";
import { hasInfo, infoId, terminalKind } from "./info.js";
import { type TtyInfoEntry, ttyType } from "./tty.schema.js";

/** Name of a terminal for --external and --inherit-fd. */
export function terminalKey(device: { rdev: bigint | number; dev: bigint | number }): string {
  return `tty[${device.rdev.toString(16)}:${device.dev.toString(16)}]`;
}

export function isLeftOutside({ stat }: OpenFile, session: DumpSession): boolean {
  return isExternal(terminalKey(stat), session);
}

/** Whether a device, wherever its node is, has been left outside. */
export function isDeviceLeftOutside(rdev: bigint, { options }: DumpSession): boolean {
  return options.external.some((key) => key.startsWith(`tty[${rdev.toString(16)}:`));
}

/** The terminal of a task's session, as stat(2) of its device would name it; 0: it has none. */
export function controllingDevice({ stat }: Pick<DumpTask, "stat">): bigint {
  return stat.ttyNr === 0 ? 0n : toStatDevice(fromTtyNumber(stat.ttyNr));
}

/** The session of the tree that has this terminal, and its foreground group, as images call them; zeros when nobody of the tree has it. */
export function sessionOf(rdev: bigint, session: DumpSession): { sid: number; pgrp: number } {
  const member = session.tasks.find((task) => controllingDevice(task) === rdev);
  return member === undefined ? { sid: 0, pgrp: 0 } : ownSession(member, session);
}

/** The session of a task and the foreground group of its terminal, as images call them. */
export function ownSession({ stat }: DumpTask, session: DumpSession): { sid: number; pgrp: number } {
  return { sid: insideSession(stat.session, session), pgrp: insideGroup(Math.max(0, stat.tpgid), session) };
}

/** Whether the leader of a task's session is in the tree too. */
export function hasLeader({ stat }: DumpTask, session: DumpSession): boolean {
  return session.tasks.some(({ traced }) => traced.tgid === stat.session);
}

/** Number of the info of a terminal that is left outside. */
export function leftOutsideId(file: OpenFile, session: DumpSession): number {
  const owners = terminalKind(file.stat) === "master" ? { sid: 0, pgrp: 0 } : sessionOf(file.stat.rdev, session);
  const external = terminalKey(file.stat);
  return infoId(file, session, { external, index: undefined, isMaster: false, locked: false, packetMode: false, ...owners });
}

/** Whether a terminal of this device has its info. */
export function isWrittenOutside(rdev: bigint, session: DumpSession): boolean {
  return hasInfo(session, (key) => key.startsWith(`tty[${rdev.toString(16)}:`));
}

/** Names under which a terminal of the images may be handed over. */
export function outsideNames(info: TtyInfoEntry | undefined): string[] {
  return info?.type === ttyType.values.EXT_TTY ? [terminalKey({ rdev: info.rdev, dev: info.dev ?? 0 })] : [];
}

/** A terminal that was handed over must be one that the session it is for can have. */
export function checkGiven(info: TtyInfoEntry, on: { fd: Fd; session: RestoreSession; use: FileUse }): Problem[] {
  const { fd, session, use } = on;
  if (info.sid === 0 || session.task(info.sid) === undefined) return [];
  const refuse = (because: string) => [
    new Refusal(
      {
        code: "EXTERNAL_UNFIT",
        process: use.process,
        resource: `${use.what.replace("file", "terminal")} ${outsideNames(info)[0]}`,
        because,
        remedy: ["Hand over a terminal that no session has, such as the slave side of a new pseudo-terminal"],
      },
      "restore",
    ),
  ];
  if (!isatty(fd)) return refuse(`it is to be the terminal of session ${info.sid}, and what was handed over is no terminal`);
  const own = readStat(process.pid);
  if (own.ttyNr !== 0 && isOwnTerminal(fd))
    return refuse(`it is to be the terminal of session ${info.sid}, and what was handed over is that of session ${own.session}`);
  return [];
}

function isOwnTerminal(fd: Fd): boolean {
  try {
    return tiocgsid(fd) === readStat(process.pid).session;
  } catch {
    return false;
  }
}

/** What a terminal of the images that was left outside and not handed over is refused with. */
export function notHandedOver(info: TtyInfoEntry, use: FileUse): Refusal {
  const [name] = outsideNames(info);
  return new Refusal(
    {
      code: "EXTERNAL_MISSING",
      process: use.process,
      resource: `${use.what.replace("file", "terminal")} ${name}`,
      because: "it was left out of the images as external, and nothing has been handed over for it",
      remedy: [`Open a terminal and hand it over: --inherit-fd fd[N]:${name}`],
    },
    "restore",
  );
}
