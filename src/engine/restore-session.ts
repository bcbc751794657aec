/**
 * A restore under way: what parts may ask, and the descriptors of ours that it opens.
 */
import { closeSync } from "node:fs";
import { ImageError } from "../errors.js";
import type { DirectorySource } from "../images/source.js";
import { MANY_FILES, type ToOpen, openMany } from "../linux/many-files.js";
import { inIpcNamespace } from "../linux/namespaces.js";
import { inheritedFor, takeInherited } from "../resources/files/inherit.js";
import { lookAtRegular, plainOpening, regularFiles } from "../resources/files/regular.js";
import { kindOf } from "../resources/files/table.js";
import { type FileEntry, fileEntry } from "../resources/files/table.schema.js";
import type { Fd, RestoreSession, RestoreTask } from "../resources/part.js";
import { fileKinds } from "../resources/registry.js";
import { withSocketLabel } from "../resources/security/socket-label.js";
import type { CoreEntry } from "../resources/tasks/core.schema.js";
import type { TracedTask } from "../target/thread.js";
import type { Logger } from "./log.js";
import type { LazyHandOver } from "./lazy/hand-over.js";
import type { RestoreOptions } from "./options.js";
import type { SavedLiving, SavedTask } from "./restore-load.js";

/** A process being made. */
export class TaskInMaking implements RestoreTask {
  readonly pid: number;
  readonly comm: string;
  readonly core: CoreEntry;
  readonly threads: RestoreTask["threads"];
  readonly saved: SavedTask & { readonly living: SavedLiving };
  #traced: TracedTask | undefined;

  constructor(saved: SavedTask & { readonly living: SavedLiving }) {
    this.saved = saved;
    this.pid = saved.pid;
    this.comm = saved.comm;
    this.core = saved.core;
    this.threads = saved.living.threads;
  }

  get traced(): TracedTask {
    if (this.#traced === undefined) throw new Error(`internal error: process ${this.pid} has not been made`);
    return this.#traced;
  }

  set traced(task: TracedTask) {
    this.#traced = task;
  }
}

/** Implements what parts see of a restore. */
export class Session implements RestoreSession {
  readonly options: RestoreOptions;
  readonly images: DirectorySource;
  /** Who brings memory after the tree runs. */
  lazy: LazyHandOver | undefined;
  readonly tasks: readonly TaskInMaking[];
  readonly #log: Logger;
  readonly #byPid: ReadonlyMap<number, TaskInMaking>;
  readonly #entries: ReadonlyMap<number, FileEntry>;
  readonly #socketLabels: ReadonlyMap<number, string>;
  readonly #open = new Map<number, Fd>();
  readonly #closeLater: Fd[] = [];
  readonly #undo: (() => void)[] = [];

  constructor(init: { options: RestoreOptions; images: DirectorySource; tasks: readonly SavedTask[]; log: Logger }) {
    this.options = init.options;
    this.images = init.images;
    this.#log = init.log;
    this.tasks = init.tasks.filter((t): t is TaskInMaking["saved"] => t.living !== undefined).map((t) => new TaskInMaking(t));
    this.#byPid = new Map(this.tasks.map((t) => [t.pid, t]));
    const descriptors = this.tasks.flatMap((t) => t.saved.living.table.entries);
    this.#socketLabels = new Map(
      descriptors.flatMap((d) => (d.xattr_security_selinux === undefined ? [] : [[d.id, d.xattr_security_selinux]])),
    );
    this.#entries = new Map(init.images.records("FILES", [], fileEntry).map((r) => [r.value.id, r.value]));
  }

  #seed: TracedTask | undefined;

  get seed(): TracedTask {
    if (this.#seed === undefined) throw new Error("internal error: the seed has not been started");
    return this.#seed;
  }

  set seed(task: TracedTask) {
    this.#seed = task;
  }

  hasOwnIpc = false;
  #ipc: Fd | undefined;

  /** Takes over a descriptor of the IPC namespace that the tree gets. */
  set ipc(fd: Fd) {
    this.#ipc = fd;
    this.closeLater(fd);
  }

  inIpc<T>(action: () => T): T {
    if (!this.hasOwnIpc) return action();
    if (this.#ipc === undefined) throw new Error("internal error: the IPC namespace has not been made");
    return inIpcNamespace(this.#ipc, action);
  }

  task(pid: number): TaskInMaking | undefined {
    return this.#byPid.get(pid);
  }

  fileEntry(id: number): FileEntry | undefined {
    return this.#entries.get(id);
  }

  file(id: number): Fd {
    const known = this.#open.get(id);
    if (known !== undefined) return known;
    const entry = this.#entries.get(id);
    const kind = entry === undefined ? undefined : kindOf(entry, fileKinds);
    if (entry === undefined || kind === undefined) {
      throw new ImageError({
        code: "IMAGE_BAD_REFERENCE",
        place: { file: "files.img" },
        because: `it has no usable file ${id}`,
        remedy: ["Dump the process again"],
      });
    }
    const inherited = inheritedFor(entry, kind, this);
    const message = entry[kind.field];
    const fd =
      inherited === undefined
        ? withSocketLabel(this.#socketLabels.get(id), () => kind.open(message, this))
        : takeInherited(inherited, kind.outside?.flags(message, this) ?? 0);
    this.#open.set(id, fd);
    return fd;
  }

  /** Looks at all regular files of the images at once, before each is checked. */
  lookAtFiles(): void {
    const regular = [...this.#entries.values()].flatMap(({ reg }) => (reg === undefined ? [] : [reg]));
    lookAtRegular(regular, this);
  }

  /**
   * Opens those files of all descriptor tables at once that are had by their names alone. What is left, or fails, is opened when it is asked
   * for, by {@link file}, which says what is wrong.
   */
  openPlainFiles(): void {
    const wanted = new Map<number, ToOpen>();
    for (const { saved } of this.tasks) {
      for (const { id } of saved.living.table.entries) {
        if (this.#open.has(id) || wanted.has(id)) continue;
        const entry = this.#entries.get(id);
        if (entry?.reg === undefined || kindOf(entry, fileKinds)?.name !== regularFiles.name) continue;
        const opening = plainOpening(entry.reg, this);
        if (opening !== undefined) wanted.set(id, opening);
      }
    }
    if (wanted.size < MANY_FILES) return;
    const opened = openMany([...wanted.values()]);
    [...wanted.keys()].forEach((id, i) => {
      const fd = opened[i];
      if (fd !== undefined) this.#open.set(id, fd);
    });
  }

  /** How many files the images have. */
  get fileCount(): number {
    return this.#entries.size;
  }

  /** Every file that has been opened so far, with its entry. */
  *openFiles(): Generator<{ fd: Fd; entry: FileEntry }> {
    for (const [id, fd] of this.#open) {
      const entry = this.#entries.get(id);
      if (entry !== undefined) yield { fd, entry };
    }
  }

  closeLater(fd: Fd): void {
    this.#closeLater.push(fd);
  }

  closeNow(fd: Fd): void {
    const at = this.#closeLater.indexOf(fd);
    if (at < 0) return;
    this.#closeLater.splice(at, 1);
    closeSync(fd);
  }

  takeBack(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** After a failure, when every task is gone: the newest change first. */
  undoAll(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  warn(message: string): void {
    this.#log.warn(message);
  }

  /** Closes every descriptor of ours. */
  close(): void {
    for (const fd of [...this.#open.values(), ...this.#closeLater]) closeSync(fd);
    this.#open.clear();
    this.#closeLater.length = 0;
    this.images.close();
  }
}
