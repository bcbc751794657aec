/**
 * Fifos: pipes with a name.
 *
 * Read from   as pipes; the name as that of a regular file
 * Made with   open(2) of the name, kept open both ways meanwhile so that no opening waits
 */
import { constants } from "node:fs";
import { openSync } from "../../linux/named-files.js";
import { setStatusFlags } from "../../linux/fcntl.js";
import { O_CLOEXEC, O_NONBLOCK, O_PATH, openat } from "../../linux/files.js";
import { Refusal } from "../../errors.js";
import { pathKeys } from "../files/inherit.js";
import { describeFile, regularFiles } from "../files/regular.js";
import { nameOf, pathOf } from "../files/remap.js";
import { fdTypes, fileEntry } from "../files/table.schema.js";
import type { Fd, FileKind, RestoreSession } from "../part.js";
import type { FifoEntry } from "./fifo.schema.js";
import { refill, savePipeData, savedPipeData } from "./pipe.js";

const S_IFMT = 0o170000n;
const S_IFIFO = 0o010000n;
const AT_FDCWD = -100;

const held = new WeakMap<RestoreSession, Map<number, Fd>>();

/** Opens the fifo both ways once, so that opening one end does not wait, and fills it. */
function hold(entry: FifoEntry, name: string, session: RestoreSession): void {
  const fifos = held.get(session) ?? new Map<number, Fd>();
  held.set(session, fifos);
  if (fifos.has(entry.pipe_id)) return;
  const fd = openSync(name, constants.O_RDWR | constants.O_NONBLOCK);
  fifos.set(entry.pipe_id, fd);
  session.closeLater(fd);
  const data = savedPipeData(session, "FIFO_DATA", entry.pipe_id);
  if (data !== undefined) refill(fd, data);
}

export const fifos: FileKind<FifoEntry> = {
  name: "pipes/fifo",
  rows: ["file.fifo"],
  type: "FIFO",
  field: "fifo",
  // An O_PATH descriptor is of a name, not of what goes through.
  matches: ({ link, stat, info }) => (stat.mode & S_IFMT) === S_IFIFO && (info.flags & O_PATH) === 0 && !link.startsWith("pipe:["),
  dump(file, session) {
    const id = session.newFileId();
    const { link, fown, stat, info, task } = file;
    const openPath = `/proc/self/fd/${file.local}`;
    const process = { pid: task.traced.pid, comm: task.comm };
    const name = nameOf({ id, link, stat, mountId: info.mntId, openPath, process, what: `fd ${file.fd}` }, session);
    if (name === undefined) return undefined;
    const pipeId = Number(file.stat.ino);
    savePipeData(file, session, { kind: "FIFO_DATA", pipeId });
    const reg = describeFile({ id, name, flags: info.flags, pos: 0n, fown, stat, openPath });
    session.images.append("FILES", [], { type: fileEntry, value: { type: fdTypes.values.REG, id, reg } });
    return { id: file.id, pipe_id: pipeId, regf_id: id };
  },
  open(entry, session) {
    const reg = session.fileEntry(entry.regf_id ?? 0)?.reg;
    if (reg === undefined) throw new Error(`internal error: fifo ${entry.id} has no name`);
    const path = pathOf(reg, session);
    hold(entry, path, session);
    const fd = openat(AT_FDCWD, path, { flags: reg.flags | O_NONBLOCK | O_CLOEXEC });
    setStatusFlags(fd, reg.flags);
    return fd;
  },
  // Every end is there by now. Whoever watches the fifo would be told of a later close.
  link(entry, { session }) {
    const fd = held.get(session)?.get(entry.pipe_id);
    if (fd !== undefined) session.closeNow(fd);
  },
  outside: {
    names: (entry, session) => pathKeys(session.fileEntry(entry.regf_id ?? 0)?.reg?.name ?? ""),
    flags: (entry, session) => session.fileEntry(entry.regf_id ?? 0)?.reg?.flags ?? 0,
  },
  check(entry, session, use) {
    const reg = session.fileEntry(entry.regf_id ?? 0)?.reg;
    if (reg !== undefined) return regularFiles.check?.(reg, session, { ...use, what: use.what.replace("file", "fifo") }) ?? [];
    const because = `its name is missing: files.img has no regular file ${entry.regf_id}`;
    return [
      new Refusal(
        { code: "IMAGE_BAD_REFERENCE", process: use.process, resource: use.what, because, remedy: ["Dump the process again"] },
        "restore",
      ),
    ];
  },
};
