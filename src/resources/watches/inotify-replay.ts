/**
 * Makes a saved queue of inotify events again: watches with the same numbers on files of our own, on a tmpfs that nobody else
 * sees, to which the same is done again.
 *
 * When such a watch is taken away the kernel adds an event (IN_IGNORED) that must not be there. It does not while the queue is
 * full and an overflow is in it already. So the queue is filled with events of no matter until it overflows; enough of
 * them are read from its front; then come the events that are wanted, which fill it again; the watches go; and what is left
 * of the others, with the overflow, is read away. What remains is the saved queue, and nothing else.
 */
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  opendirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KernelError } from "../../errors.js";
import {
  IN_ACCESS,
  IN_ATTRIB,
  IN_CLOSE_NOWRITE,
  IN_CLOSE_WRITE,
  IN_CREATE,
  IN_DELETE,
  IN_DELETE_SELF,
  IN_DONT_FOLLOW,
  IN_IGNORED,
  IN_ISDIR,
  IN_MODIFY,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  IN_MOVE_SELF,
  IN_OPEN,
  IN_UNMOUNT,
  INOTIFY_EVENT_BYTES,
  type InotifyEvent,
  inotifyAddWatch,
  inotifyEventBytes,
  inotifyRemoveWatch,
  setNextWatch,
} from "../../linux/events.js";
import { bytesToRead } from "../../linux/pipes.js";
import { privateTmpfs } from "../../linux/private-tmpfs.js";
import type { Fd } from "../part.js";
import { type Act, type QueuePlan, type WatchedKind, countOf, eventsOf, watchedKinds } from "./inotify-queue.js";

/** Numbers that no watch of a program has got to. */
const FIRST_OF_OURS = 0x7fff_fff0;
/** Nothing is to be reported. */
const QUIET = IN_DONT_FOLLOW;

/** Reads events away until `keepBytes` are left. `fd` does not block. */
export function drain(fd: Fd, keepBytes: number): void {
  const room = Buffer.alloc(1 << 16);
  for (let left = bytesToRead(fd); left > keepBytes; left = bytesToRead(fd))
    readSync(fd, room, 0, Math.min(room.length, left - keepBytes), null);
}

/** Makes the empty queue of `fd`, which has no watches and room for `limit` events, that of `plan`. False: it is not. */
export function replay(fd: Fd, plan: QueuePlan, limit: number): boolean {
  const place = new Place();
  const filler = new Filler(fd, place.path);
  const watched = new Watched(fd, place);
  const [before, after] = [countOf(plan.before), countOf(plan.after)];
  try {
    watched.make(plan);
    if (plan.overflow) {
      filler.add(limit - before);
      plan.before.forEach((act) => watched.perform(act));
      filler.add(1);
      if (after > 0) drain(fd, bytesToRead(fd) - (after + 1) * INOTIFY_EVENT_BYTES);
      plan.after.forEach((act) => watched.perform(act));
    } else {
      filler.add(limit + 1);
      drain(fd, bytesToRead(fd) - (before + 1) * INOTIFY_EVENT_BYTES);
      plan.before.forEach((act) => watched.perform(act));
    }
    // The queue is full: the kernel says nothing of this.
    watched.close();
    filler.close();
    const bytes = [...plan.before, ...plan.after].flatMap(eventsOf).reduce((sum, event) => sum + inotifyEventBytes(event), 0);
    const wanted = bytes + (plan.overflow ? INOTIFY_EVENT_BYTES : 0);
    drain(fd, wanted);
    return bytesToRead(fd) === wanted;
  } catch (error) {
    if (!(error instanceof KernelError) && (error as NodeJS.ErrnoException).code === undefined) throw error;
    return false;
  } finally {
    watched.close();
    filler.close();
    place.close();
  }
}

/** Where files of ours are: nobody else sees them. */
class Place {
  readonly path: string;
  readonly #root: Fd | undefined;

  constructor() {
    let root: Fd | undefined;
    try {
      root = privateTmpfs();
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
    }
    this.#root = root;
    this.path = root === undefined ? mkdtempSync(join(tmpdir(), "floe-")) : `/proc/self/fd/${root}`;
  }

  close(): void {
    if (this.#root === undefined) rmSync(this.path, { recursive: true });
    else closeSync(this.#root);
  }
}

/** Events of no matter: two files, read in turn, since equal events in a row are one. */
class Filler {
  readonly #fd: Fd;
  readonly #files: Fd[];
  readonly #watches: number[];
  readonly #byte = Buffer.alloc(1);
  #next = 0;

  constructor(fd: Fd, folder: string) {
    this.#fd = fd;
    const paths = ["fill-1", "fill-2"].map((name) => `${folder}/${name}`);
    for (const path of paths) writeFileSync(path, "content");
    this.#files = paths.map((path) => openSync(path, "r"));
    setNextWatch(fd, FIRST_OF_OURS);
    this.#watches = paths.map((path) => inotifyAddWatch(fd, path, IN_ACCESS));
  }

  add(count: number): void {
    for (let i = 0; i < count; i++) readSync(this.#files[this.#next++ & 1] as Fd, this.#byte, 0, 1, 0);
  }

  close(): void {
    for (const watch of this.#watches.splice(0)) inotifyRemoveWatch(this.#fd, watch);
    for (const file of this.#files.splice(0)) closeSync(file);
  }
}

/** A file of ours under the number of a watch of the program. */
interface Stand {
  readonly wd: number;
  path: string;
  /** Of one that is to be unmounted: a tmpfs for it alone. */
  readonly root: Fd | undefined;
  isGone: boolean;
}

class Watched {
  readonly #fd: Fd;
  readonly #place: Place;
  readonly #stands = new Map<number, Stand>();

  constructor(fd: Fd, place: Place) {
    this.#fd = fd;
    this.#place = place;
  }

  make(plan: QueuePlan): void {
    const events = [...plan.before, ...plan.after].flatMap(eventsOf);
    const unmounted = new Set(events.filter((event) => (event.mask & IN_UNMOUNT) !== 0).map((event) => event.wd));
    const kinds = watchedKinds(events);
    for (const [wd, kind] of kinds) this.#stands.set(wd, this.#make(wd, kind, unmounted.has(wd)));
  }

  #make(wd: number, kind: WatchedKind, isAlone: boolean): Stand {
    const root = isAlone ? privateTmpfs() : undefined;
    const path = `${root === undefined ? this.#place.path : `/proc/self/fd/${root}`}/watch-${wd}`;
    create(path, kind === "directory");
    if (!setNextWatch(this.#fd, wd)) throw new KernelError({ call: "ioctl(INOTIFY_IOC_SETNEXTWD)", errno: 25, errnoText: "ENOTTY" });
    const got = inotifyAddWatch(this.#fd, path, QUIET);
    if (got !== wd) throw new KernelError({ call: `inotify_add_watch for number ${wd}`, errno: 17, errnoText: `the number is ${got}` });
    return { wd, path, root, isGone: false };
  }

  #stand(event: InotifyEvent): Stand {
    const stand = this.#stands.get(event.wd);
    if (stand === undefined) throw new Error(`internal error: watch ${event.wd} has no file`);
    return stand;
  }

  #listen(stand: Stand, mask: number): void {
    inotifyAddWatch(this.#fd, stand.path, mask | IN_DONT_FOLLOW);
  }

  perform(act: Act): void {
    if (act.kind === "rename") this.#rename(act.from, act.to);
    else if (act.kind === "gone") this.#end(act.event);
    else if (act.event.mask === IN_IGNORED) this.#forget(this.#stand(act.event));
    else this.#cause(act.event);
  }

  #rename(from: InotifyEvent, to: InotifyEvent): void {
    const [source, target] = [this.#stand(from), this.#stand(to)];
    const [old, fresh] = [pathIn(source, from), pathIn(target, to)];
    create(old, isDirectory(from));
    this.#listen(target, IN_MOVED_TO);
    this.#listen(source, IN_MOVED_FROM | (source === target ? IN_MOVED_TO : 0));
    renameSync(old, fresh);
    this.#listen(source, QUIET);
    this.#listen(target, QUIET);
    remove(fresh, isDirectory(from));
  }

  #end(event: InotifyEvent): void {
    const stand = this.#stand(event);
    stand.isGone = true;
    if ((event.mask & IN_UNMOUNT) !== 0 && stand.root !== undefined) {
      closeSync(stand.root);
      return;
    }
    this.#listen(stand, IN_DELETE_SELF);
    rmSync(stand.path, { recursive: true });
  }

  #forget(stand: Stand): void {
    stand.isGone = true;
    inotifyRemoveWatch(this.#fd, stand.wd);
    if (stand.root !== undefined) closeSync(stand.root);
  }

  /** Does to the watched file, or to one in it, what causes the event; it is listened to for that moment only. */
  #cause(event: InotifyEvent): void {
    const stand = this.#stand(event);
    const path = pathIn(stand, event);
    const isNamed = event.name.length > 0;
    const isFolder = isDirectory(event);
    const what = event.mask & ~IN_ISDIR;
    if (isNamed && what !== IN_CREATE && what !== IN_MOVED_TO) create(path, isFolder);
    const during = (doIt: () => void) => {
      this.#listen(stand, what);
      doIt();
      this.#listen(stand, QUIET);
    };
    const aside = `${this.#place.path}/aside`;
    if (what === IN_MOVED_TO) create(aside, isFolder);
    if (what === IN_OPEN) {
      let opened = -1;
      during(() => (opened = openSync(path, "r")));
      closeSync(opened);
    } else if (what === IN_CLOSE_NOWRITE || what === IN_CLOSE_WRITE) {
      const opened = openSync(path, what === IN_CLOSE_WRITE ? "r+" : "r");
      during(() => closeSync(opened));
    } else if (what === IN_ACCESS && isFolder) {
      const opened = opendirSync(path as unknown as string);
      during(() => opened.readSync());
      opened.closeSync();
    } else if (what === IN_ACCESS || what === IN_MODIFY) {
      const opened = openSync(path, what === IN_MODIFY ? "r+" : "r");
      during(() => (what === IN_MODIFY ? writeSync(opened, "x") : readSync(opened, Buffer.alloc(1), 0, 1, 0)));
      closeSync(opened);
    } else if (what === IN_ATTRIB) during(() => chmodSync(path, 0o700));
    else if (what === IN_CREATE) during(() => create(path, isFolder));
    else if (what === IN_DELETE) during(() => remove(path, isFolder));
    else if (what === IN_MOVED_FROM) during(() => renameSync(path, aside));
    else if (what === IN_MOVED_TO) during(() => renameSync(aside, path));
    else if (what === IN_MOVE_SELF) this.#moveSelf(stand);
    if (what === IN_MOVED_FROM) remove(aside, isFolder);
    else if (isNamed && what !== IN_DELETE) remove(path, isFolder);
  }

  #moveSelf(stand: Stand): void {
    const path = `${stand.path}+`;
    this.#listen(stand, IN_MOVE_SELF);
    renameSync(stand.path, path);
    stand.path = path;
    this.#listen(stand, QUIET);
  }

  close(): void {
    for (const stand of this.#stands.values()) if (!stand.isGone) this.#forget(stand);
  }
}

const isDirectory = (event: InotifyEvent): boolean => (event.mask & IN_ISDIR) !== 0;

function pathIn(stand: Stand, { name }: InotifyEvent): Buffer {
  return Buffer.concat([Buffer.from(stand.path), Buffer.from(name.length > 0 ? "/" : ""), name]);
}

function create(path: Buffer | string, isFolder: boolean): void {
  if (isFolder) mkdirSync(path, 0o700);
  else writeFileSync(path, "content", { mode: 0o600, flag: "wx" });
}

function remove(path: Buffer | string, isFolder: boolean): void {
  if (isFolder) rmdirSync(path);
  else unlinkSync(path);
}
