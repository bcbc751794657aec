/**
 * The terminal of a session: which one it is, who is in its foreground.
 *
 * Read from   /proc/PID/stat (tty_nr, tpgid), TIOCGDEV for what lies behind a console
 * Made with   TIOCSCTTY right after setsid(2), so that children inherit it; TIOCSPGRP when every process exists
 */
import { ERRNO, kernelError } from "../../linux/errno.js";
import { closeSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { dupFrom, setStatusFlags } from "../../linux/fcntl.js";
import { AT_FDCWD, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR, openat } from "../../linux/files.js";
import { pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import { SYS } from "../../linux/syscalls.js";
import { TIOCSCTTY, TIOCSPGRP } from "../../linux/terminals.js";
import { closeRemote, handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { TracedTask } from "../../target/thread.js";
import { inheritedFd } from "../files/inherit.js";
import type { DumpSession, DumpTask, Fd, RestoreSession } from "../part.js";
import { PTMX_RDEV, deviceName, isDeviceOfImage, terminalInfos } from "./info.js";
import { controllingDevice, hasLeader, isDeviceLeftOutside, outsideNames } from "./outside.js";
import { hasMaster, isInside, pairOf, slaveNumber } from "./pty.js";
import { type TtyFileEntry, type TtyInfoEntry, ttyType } from "./tty.schema.js";

/** Refuses trees in which a session would lose its terminal. */
export function checkSessions(session: DumpSession, carried: (rdev: bigint) => boolean): void {
  const seen = new Set<number>();
  for (const task of session.tasks) {
    const { stat } = task;
    if (stat.ttyNr === 0 || seen.has(stat.session) || !hasLeader(task, session)) continue;
    seen.add(stat.session);
    const rdev = controllingDevice(task);
    const index = slaveNumber(rdev);
    if (index !== undefined && hasMaster(index, session)) continue;
    if (carried(rdev) || session.options.shellJob) continue;
    session.refuse(terminalOutside(task, { index, isNamed: isDeviceLeftOutside(rdev, session) }));
  }
}

function terminalOutside(task: DumpTask, at: { index: number | undefined; isNamed: boolean }): Refusal {
  const name = at.index === undefined ? `device ${controllingDevice(task).toString(16)}` : `/dev/pts/${at.index}`;
  return new Refusal({
    code: "TERMINAL_FROM_OUTSIDE",
    process: { pid: task.traced.pid, comm: task.comm },
    resource: `the controlling terminal of session ${task.stat.session}, ${name}`,
    because: at.isNamed
      ? "it is left outside, and no process of the tree has it open by its own name"
      : "its other side is outside the tree, and no process of the tree has it open",
    remedy: [
      "Dump the tree together with the process that holds the terminal's master side",
      "Let the program keep a descriptor of it open",
    ],
  });
}

/** Whether session `info.sid` of the tree can be given this terminal. */
function canBeGiven(info: TtyInfoEntry, session: RestoreSession): boolean {
  if (info.sid === 0 || session.task(info.sid) === undefined) return false;
  if (info.rdev === PTMX_RDEV) return info.pty !== undefined && info.type !== ttyType.values.EXT_TTY;
  if (info.type === ttyType.values.PTY) return isInside(info, session);
  return info.type === ttyType.values.EXT_TTY || isDeviceOfImage(info, session);
}

/** The terminal of the images that a session of theirs has. */
export function terminalOf(sid: number, session: RestoreSession): TtyInfoEntry | undefined {
  return terminalInfos(session).find((info) => info.sid === sid && canBeGiven(info, session));
}

/** A descriptor of ours for it. */
function openTerminal(info: TtyInfoEntry, session: RestoreSession): Fd | undefined {
  if (info.pty !== undefined && info.type === ttyType.values.PTY) return dupFrom(pairOf(info.pty.index, session).slave, 0);
  if (info.type === ttyType.values.EXT_TTY) {
    const given = inheritedFd(session, ...outsideNames(info));
    return given === undefined ? undefined : dupFrom(given, 0);
  }
  return dupFrom(keptOpen(deviceName(info), session), 0);
}

const kept = new WeakMap<RestoreSession, Map<string, Fd>>();

/** A terminal that nobody has open any more is no session's either: it is kept open until the tree has its files. */
function keptOpen(name: string, session: RestoreSession): Fd {
  const all = kept.get(session) ?? new Map<string, Fd>();
  kept.set(session, all);
  let fd = all.get(name);
  if (fd === undefined) {
    fd = openat(AT_FDCWD, name, { flags: O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC });
    all.set(name, fd);
    session.closeLater(fd);
  }
  return fd;
}

/** Gives a new session its terminal, if it had one that is there; its future children inherit it. */
export function takeTerminal(leader: TracedTask, sid: number, session: RestoreSession): void {
  const info = terminalOf(sid, session);
  if (info === undefined) return;
  withTerminal(leader, openTerminal(info, session), (fd) => {
    const program = new Program();
    program.call(SYS.ioctl, fd, TIOCSCTTY, 0).must(`giving session ${sid} its terminal, which no other session may have`);
    run(leader.leader, program);
  });
}

const done = new WeakMap<RestoreSession, Set<number>>();

/** Sets the foreground group, as a member of the session; all signals are blocked there, so nobody is stopped for it. */
export function setForeground(info: TtyInfoEntry, session: RestoreSession): void {
  const leader = session.task(info.sid)?.traced;
  const sessions = done.get(session) ?? new Set<number>();
  done.set(session, sessions);
  if (leader === undefined || info.pgrp === 0 || sessions.has(info.sid) || !canBeGiven(info, session)) return;
  sessions.add(info.sid);
  withTerminal(leader, openTerminal(info, session), (fd) => {
    const program = new Program();
    const group = program.bytes(Buffer.alloc(4));
    group.content.writeInt32LE(info.pgrp, 0);
    const put = program.call(SYS.ioctl, fd, TIOCSPGRP, group);
    run(leader.leader, program);
    if (put.errno === 0) return;
    if (put.errno !== ERRNO.ESRCH)
      throw kernelError(`ioctl(${fd}, TIOCSPGRP)`, -put.errno, `putting group ${info.pgrp} into the foreground`);
    // Nobody is left of a group that was killed before its shell took the terminal back.
    session.warn(`nobody is left of group ${info.pgrp}, which was in the foreground of a terminal: that of its session's leader is, now`);
  });
}

function withTerminal(task: TracedTask, terminal: Fd | undefined, action: (fd: number) => void): void {
  if (terminal === undefined) return;
  try {
    const [fd] = handOver(task.leader, [terminal]) as [number];
    try {
      action(fd);
    } finally {
      closeRemote(task.leader, [fd]);
    }
  } finally {
    closeSync(terminal);
  }
}

/** /dev/tty is opened by the leader of the session whose terminal it is. */
export function openInLeader(entry: TtyFileEntry, info: TtyInfoEntry, session: RestoreSession): Fd {
  const leader = session.task(info.sid)?.traced;
  if (leader === undefined) throw new Error(`internal error: session ${info.sid} has no leader to open /dev/tty`);
  const program = new Program();
  const opened = program
    .call(SYS.openat, AT_FDCWD, program.cstring("/dev/tty"), entry.flags | O_CLOEXEC | O_NONBLOCK, 0)
    .must("opening /dev/tty");
  run(leader.leader, program);
  const pidfd = pidfdOpen(leader.pid);
  try {
    const fd = pidfdGetfd(pidfd, Number(opened.value));
    setStatusFlags(fd, entry.flags);
    return fd;
  } finally {
    closeSync(pidfd);
    closeRemote(leader.leader, [Number(opened.value)]);
  }
}
