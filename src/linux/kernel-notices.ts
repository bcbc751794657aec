/**
 * Notices about directories by signals ("dnotify", fcntl(2) F_NOTIFY): no call tells who has asked for them. Read from the kernel's memory
 * (`kernel-view.ts`): the marks of an inode, of which those of dnotify belong to one group, that of a mark of our own.
 * Structures: linux/fsnotify_backend.h, linux/dnotify.h, fs/notify/dnotify/dnotify.c, fs/notify/fsnotify.h.
 */
import { closeSync } from "node:fs";
import { DN_EVENTS, DN_MULTISHOT, fNotify } from "./fcntl.js";
import { O_CLOEXEC, O_DIRECTORY, openat } from "./files.js";
import { KernelTasks } from "./kernel-tasks.js";
import { POINTER_BYTES } from "./kernel-view.js";
import { privateTmpfs } from "./private-tmpfs.js";

const STRUCTS = {
  task_struct: ["files"],
  inode: ["i_fsnotify_marks"],
  fsnotify_mark_connector: ["list"],
  fsnotify_mark: ["group", "obj_list"],
  dnotify_mark: ["fsn_mark", "dn"],
  dnotify_struct: ["dn_next", "dn_mask", "dn_fd", "dn_filp", "dn_owner"],
} as const;

/** Marks of one inode, or notices of one mark, that are looked at. */
const MOST = 4096;

/** One process's wish to be told about a directory. */
export interface Notice {
  /** The number of the descriptor that was used, which the signal has. */
  readonly fd: number;
  /** DN_… flags. */
  readonly mask: number;
  /** The descriptor table that it was used in: an address in the kernel. */
  readonly table: bigint;
}

export class KernelNotices {
  readonly #view: KernelTasks;
  readonly #group: bigint;
  /** What the kernel makes of each DN_… flag. */
  readonly #bits: readonly { readonly flag: number; readonly bits: number }[];

  private constructor(view: KernelTasks, group: bigint, bits: readonly { flag: number; bits: number }[]) {
    this.#view = view;
    this.#group = group;
    this.#bits = bits;
  }

  /** Undefined where the kernel has no dnotify or no type information, or lets us read nothing. */
  static open(): KernelNotices | undefined {
    const view = KernelTasks.open(STRUCTS);
    if (view === undefined) return undefined;
    const fds: number[] = [];
    try {
      fds.push(privateTmpfs());
      fds.push(openat(fds[0] as number, ".", { flags: O_DIRECTORY | O_CLOEXEC }));
      return KernelNotices.#learn(view, fds[1] as number);
    } catch {
      return undefined;
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }

  /** Asks for each kind of notice about a directory that is nobody else's, and looks what becomes of it. */
  static #learn(view: KernelTasks, own: number): KernelNotices | undefined {
    const bits: { flag: number; bits: number }[] = [];
    let group = 0n;
    // The last flag means nothing without another.
    for (const flag of [...DN_EVENTS, DN_MULTISHOT]) {
      fNotify(own, flag === DN_MULTISHOT ? flag + DN_EVENTS[0] : flag);
      const [mark] = marksOf(view, own);
      group = mark?.group ?? 0n;
      const learner = new KernelNotices(view, group, []);
      const raw = mark === undefined ? undefined : learner.#rawOf(mark.address, undefined)[0]?.mask;
      fNotify(own, 0);
      if (raw === undefined) return undefined;
      bits.push({ flag, bits: raw });
    }
    const common = bits.reduce((all, one) => all & one.bits, -1) >>> 0;
    const plain = bits.map(({ flag, bits }) => ({ flag, bits: (bits & ~common) >>> 0 }));
    return new KernelNotices(
      view,
      group,
      plain.map(({ flag, bits }) => ({ flag, bits: flag === DN_MULTISHOT ? (bits & ~(plain[0]?.bits ?? 0)) >>> 0 : bits })),
    );
  }

  /** What was asked for by the open file behind a descriptor of ours. */
  of(fd: number): Notice[] {
    const file = fileOf(this.#view, fd);
    if (file === undefined) return [];
    return marksOf(this.#view, fd)
      .filter(({ group }) => group === this.#group)
      .flatMap(({ address }) => this.#rawOf(address, file))
      .map(({ mask, ...one }) => ({
        ...one,
        mask: this.#bits.reduce((all, { flag, bits }) => ((mask & bits) === bits ? (all | flag) >>> 0 : all), 0),
      }));
  }

  /** The descriptor table of a process. */
  tableOf(pid: number): bigint | undefined {
    return this.#view.ofTask(`/proc/${pid}`, "files", { offset: 0, length: POINTER_BYTES })?.readBigUInt64LE(0);
  }

  #rawOf(mark: bigint, file: bigint | undefined): Notice[] {
    const view = this.#view;
    const found: Notice[] = [];
    const start = mark - BigInt(view.at("dnotify_mark", "fsn_mark"));
    let at = view.pointer(start + BigInt(view.at("dnotify_mark", "dn")));
    for (let i = 0; at !== undefined && at !== 0n && i < MOST; i++) {
      const bytes = view.read(at, view.sizeOf("dnotify_struct"));
      if (bytes === undefined) break;
      const place = (member: string) => view.at("dnotify_struct", member);
      if (file === undefined || bytes.readBigUInt64LE(place("dn_filp")) === file)
        found.push({
          fd: bytes.readInt32LE(place("dn_fd")),
          mask: bytes.readUInt32LE(place("dn_mask")),
          table: bytes.readBigUInt64LE(place("dn_owner")),
        });
      at = bytes.readBigUInt64LE(place("dn_next"));
    }
    return found;
  }
}

/** Address of struct file of a descriptor of ours. */
function fileOf(view: KernelTasks, fd: number): bigint | undefined {
  const way = view.toFile(fd);
  const found = view.memory.read({ start: "task", pointers: way.slice(0, -1), offset: way.at(-1) ?? 0 }, POINTER_BYTES);
  return found?.readBigUInt64LE(0);
}

/** The marks on what a descriptor of ours is of. */
function marksOf(view: KernelTasks, fd: number): { address: bigint; group: bigint }[] {
  const way = {
    start: "task" as const,
    pointers: [...view.toFile(fd), view.at("file", "f_inode")],
    offset: view.at("inode", "i_fsnotify_marks"),
  };
  const connector = view.memory.read(way, POINTER_BYTES)?.readBigUInt64LE(0);
  const marks: { address: bigint; group: bigint }[] = [];
  if (connector === undefined || connector === 0n) return marks;
  let node = view.pointer(connector + BigInt(view.at("fsnotify_mark_connector", "list")));
  while (node !== undefined && node !== 0n && marks.length < MOST) {
    const address = node - BigInt(view.at("fsnotify_mark", "obj_list"));
    const group = view.pointer(address + BigInt(view.at("fsnotify_mark", "group")));
    if (group === undefined) break;
    marks.push({ address, group });
    node = view.pointer(node);
  }
  return marks;
}
