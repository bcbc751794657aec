/**
 * A BPF iterator over the descriptors of a process (`task_file`, since 5.8): what /proc/PID/fd and /proc/PID/fdinfo say of each, of all
 * of them at once, and which of them are one open file description; and besides which processes are in the same namespaces.
 *
 * Read from  struct file, inode, mount, fdtable and file_lock_context (linux/fs.h, fs/mount.h, linux/fdtable.h, linux/filelock.h), as
 *            fs/proc/fd.c reads them; their members are found by BTF. The name is that of bpf_d_path(3bpf), as of readlink(2).
 *
 * What lies elsewhere is not said but noted: locks, somebody who is told by signals, a kind whose fdinfo says more.
 */
import { type Line, OP, assemble, loadProgram } from "./bpf-code.js";
import { BPF_FUNC_seq_write, readIterator } from "./bpf-iter.js";
import { type StructFound, type StructsWanted, kernelStructs, kernelTypes } from "./btf.js";

const BPF_FUNC_probe_read_kernel = 113;
const BPF_FUNC_d_path = 147;

/** struct bpf_iter__task_file: meta, task, fd, file. */
const CONTEXT = { task: 8, fd: 16, file: 24 } as const;

/** The words of a record; its name follows. */
const WORD = {
  fd: 0,
  file: 1,
  pos: 2,
  flags: 3,
  closeOnExec: 4,
  inode: 5,
  mount: 6,
  mountId: 7,
  inodeNumber: 8,
  isLocked: 9,
  isOwned: 10,
  /** The function with which the kind says more in fdinfo. */
  more: 11,
  nameBytes: 12,
  /** Of the process, if its first thread lives. */
  namespaces: 13,
  userNamespace: 14,
  pidNamespace: 15,
} as const;
type Word = (typeof WORD)[keyof typeof WORD];
const WORDS = 16;
const HEAD_BYTES = WORDS * 8;
/** With its zero byte; of a longer one the record has none. A program has 512 bytes of stack. */
const NAME_ROOM = 256;
const SCRATCH = -8;
const HEAD_AT = SCRATCH - HEAD_BYTES;
const NAME_AT = HEAD_AT - NAME_ROOM;

const STRUCTS: StructsWanted = {
  task_struct: ["files", "pid", "tgid", "nsproxy", "real_cred", "thread_pid"],
  cred: ["user_ns"],
  pid: ["level", "numbers"],
  upid: ["ns"],
  files_struct: ["fdt"],
  fdtable: ["close_on_exec"],
  file: ["f_pos", "f_flags", "f_inode", "f_op", "f_path", "f_path.mnt", "f_owner", "f_owner.pid?"],
  fown_struct: ["pid", "signum"],
  inode: ["i_ino", "i_flctx"],
  mount: ["mnt", "mnt_id"],
  file_lock_context: ["flc_flock", "flc_posix", "flc_lease"],
  file_operations: ["show_fdinfo"],
};

type Layout = Readonly<Record<string, StructFound | undefined>>;

/** Copies what lies behind an address in a register; whether that failed is gathered in register 9. */
function copy(from: { base: number; offset: number; bytes?: number }, to: number): Line[] {
  return [
    [OP.MOVE, 3, from.base, 0, 0],
    [OP.ADD_CONSTANT, 3, 0, 0, from.offset],
    [OP.MOVE, 1, 10, 0, 0],
    [OP.ADD_CONSTANT, 1, 0, 0, to],
    [OP.MOVE_CONSTANT, 2, 0, 0, from.bytes ?? 8],
    [OP.CALL, 0, 0, 0, BPF_FUNC_probe_read_kernel],
    [OP.OR, 9, 0, 0, 0],
  ];
}

const word = (which: Word) => HEAD_AT + which * 8;
/** Follows a pointer: register 8 has it afterwards. */
const follow = (base: number, offset: number): Line[] => [...copy({ base, offset }, SCRATCH), [OP.LOAD, 8, 10, SCRATCH, 0]];

function write(from: number, bytes: Line): Line[] {
  return [
    [OP.LOAD, 1, 6, 0, 0], // ctx->meta
    [OP.LOAD, 1, 1, 0, 0], // meta->seq
    [OP.MOVE, 2, 10, 0, 0],
    [OP.ADD_CONSTANT, 2, 0, 0, from],
    bytes,
    [OP.CALL, 0, 0, 0, BPF_FUNC_seq_write],
  ];
}

/** Register 6 has the context, 7 the file, 8 what is being looked at. */
function program(layout: Layout): Buffer {
  const at = (struct: string, member: string) => layout[struct]?.at[member] ?? 0;
  const ofFile = (member: string) => ({ base: 7, offset: at("file", member) });
  return assemble([
    [OP.MOVE, 6, 1, 0, 0],
    [OP.LOAD, 7, 6, CONTEXT.file, 0],
    // After the last descriptor there is a call without one.
    [OP.JUMP_IF_EQUAL, 7, 0, 0, 0, "end"],
    [OP.MOVE_CONSTANT, 9, 0, 0, 0],
    ...Array.from({ length: WORDS }, (_, i): Line => [OP.STORE_CONSTANT, 10, 0, HEAD_AT + i * 8, 0]),
    [OP.LOAD_INT, 8, 6, CONTEXT.fd, 0],
    [OP.STORE, 10, 8, word(WORD.fd), 0],
    [OP.STORE, 10, 7, word(WORD.file), 0],
    ...copy(ofFile("f_pos"), word(WORD.pos)),
    ...copy({ ...ofFile("f_flags"), bytes: 4 }, word(WORD.flags)),
    ...namespaces(at, layout["upid"]?.sizeBytes ?? 0),
    ...closeOnExec(at),
    ...copy(ofFile("f_path.mnt"), word(WORD.mount)),
    [OP.LOAD, 8, 10, word(WORD.mount), 0],
    ...copy({ base: 8, offset: at("mount", "mnt_id") - at("mount", "mnt"), bytes: 4 }, word(WORD.mountId)),
    ...copy(ofFile("f_inode"), word(WORD.inode)),
    [OP.LOAD, 8, 10, word(WORD.inode), 0],
    ...copy({ base: 8, offset: at("inode", "i_ino") }, word(WORD.inodeNumber)),
    ...locks(at),
    ...owner(layout),
    ...follow(7, at("file", "f_op")),
    ...copy({ base: 8, offset: at("file_operations", "show_fdinfo") }, word(WORD.more)),
    ...name(at("file", "f_path")),
    "end",
    [OP.MOVE_CONSTANT, 0, 0, 0, 0],
    [OP.EXIT, 0, 0, 0, 0],
  ]);
}

type At = (struct: string, member: string) => number;

/** Of the first thread alone: others may be in others. */
function namespaces(at: At, upidBytes: number): Line[] {
  const task = (member: string) => ({ base: 8, offset: at("task_struct", member) });
  const asTask: Line[] = [
    [OP.LOAD, 8, 6, CONTEXT.task, 0],
    [OP.JUMP_IF_EQUAL, 8, 0, 0, 0, "end"],
  ];
  return [
    ...asTask,
    ...copy({ ...task("pid"), bytes: 4 }, word(WORD.namespaces)),
    ...copy({ ...task("tgid"), bytes: 4 }, word(WORD.userNamespace)),
    [OP.LOAD, 3, 10, word(WORD.namespaces), 0],
    [OP.LOAD, 4, 10, word(WORD.userNamespace), 0],
    [OP.STORE_CONSTANT, 10, 0, word(WORD.namespaces), 0],
    [OP.STORE_CONSTANT, 10, 0, word(WORD.userNamespace), 0],
    [OP.JUMP_IF_SAME, 3, 4, 0, 0, "first"],
    [OP.JUMP, 0, 0, 0, 0, "elsewhere"],
    "first",
    ...copy(task("nsproxy"), word(WORD.namespaces)),
    ...follow(8, at("task_struct", "real_cred")),
    ...copy({ base: 8, offset: at("cred", "user_ns") }, word(WORD.userNamespace)),
    ...asTask,
    ...follow(8, at("task_struct", "thread_pid")),
    // The innermost of the numbers that it has.
    [OP.STORE_CONSTANT, 10, 0, SCRATCH, 0],
    ...copy({ base: 8, offset: at("pid", "level"), bytes: 4 }, SCRATCH),
    [OP.LOAD, 3, 10, SCRATCH, 0],
    [OP.MULTIPLY_CONSTANT, 3, 0, 0, upidBytes],
    [OP.ADD, 8, 3, 0, 0],
    ...copy({ base: 8, offset: at("pid", "numbers") + at("upid", "ns") }, word(WORD.pidNamespace)),
    "elsewhere",
  ];
}

function closeOnExec(at: At): Line[] {
  const slot = word(WORD.closeOnExec);
  return [
    [OP.LOAD, 8, 6, CONTEXT.task, 0],
    [OP.JUMP_IF_EQUAL, 8, 0, 0, 0, "end"],
    ...follow(8, at("task_struct", "files")),
    ...follow(8, at("files_struct", "fdt")),
    ...follow(8, at("fdtable", "close_on_exec")),
    // Of the bits, the word with ours, and of that, ours.
    [OP.LOAD, 3, 10, word(WORD.fd), 0],
    [OP.SHIFT_RIGHT_CONSTANT, 3, 0, 0, 6],
    [OP.SHIFT_LEFT_CONSTANT, 3, 0, 0, 3],
    [OP.ADD, 8, 3, 0, 0],
    ...copy({ base: 8, offset: 0 }, slot),
    [OP.LOAD, 8, 10, slot, 0],
    [OP.LOAD, 3, 10, word(WORD.fd), 0],
    [OP.AND_CONSTANT, 3, 0, 0, 63],
    [OP.SHIFT_RIGHT, 8, 3, 0, 0],
    [OP.AND_CONSTANT, 8, 0, 0, 1],
    [OP.STORE, 10, 8, slot, 0],
  ];
}

/** Lists of locks that are not empty: the first entry of an empty one is the list itself. Register 8 has the inode. */
function locks(at: At): Line[] {
  const lists = ["flc_flock", "flc_posix", "flc_lease"].flatMap((list): Line[] => {
    const offset = at("file_lock_context", list);
    return [
      ...copy({ base: 8, offset }, SCRATCH),
      [OP.LOAD, 3, 10, SCRATCH, 0],
      [OP.MOVE, 4, 8, 0, 0],
      [OP.ADD_CONSTANT, 4, 0, 0, offset],
      [OP.JUMP_IF_SAME, 3, 4, 0, 0, list],
      [OP.STORE_CONSTANT, 10, 0, word(WORD.isLocked), 1],
      list,
    ];
  });
  return [...follow(8, at("inode", "i_flctx")), [OP.JUMP_IF_EQUAL, 8, 0, 0, 0, "unlocked"], ...lists, "unlocked"];
}

/** Whether anybody is told by signals, or by another signal than usual. Who that is is part of the file, or, since 6.12, lies elsewhere. */
function owner(layout: Layout): Line[] {
  const at = (struct: string, member: string) => layout[struct]?.at[member] ?? 0;
  const isInside = layout["file"]?.at["f_owner.pid"] !== undefined;
  const [base, start] = isInside ? [7, at("file", "f_owner")] : [8, 0];
  const parts = [
    { name: "pid", bytes: 8 },
    { name: "signum", bytes: 4 },
  ].flatMap(({ name, bytes }): Line[] => [
    [OP.STORE_CONSTANT, 10, 0, SCRATCH, 0],
    ...copy({ base, offset: start + at("fown_struct", name), bytes }, SCRATCH),
    [OP.LOAD, 3, 10, SCRATCH, 0],
    [OP.JUMP_IF_EQUAL, 3, 0, 0, 0, `no ${name}`],
    [OP.STORE_CONSTANT, 10, 0, word(WORD.isOwned), 1],
    `no ${name}`,
  ]);
  if (isInside) return parts;
  return [...follow(7, at("file", "f_owner")), [OP.JUMP_IF_EQUAL, 8, 0, 0, 0, "unowned"], ...parts, "unowned"];
}

/** The name, and the record. */
function name(path: number): Line[] {
  return [
    [OP.MOVE, 1, 7, 0, 0],
    [OP.ADD_CONSTANT, 1, 0, 0, path],
    [OP.MOVE, 2, 10, 0, 0],
    [OP.ADD_CONSTANT, 2, 0, 0, NAME_AT],
    [OP.MOVE_CONSTANT, 3, 0, 0, NAME_ROOM],
    [OP.CALL, 0, 0, 0, BPF_FUNC_d_path],
    [OP.MOVE, 8, 0, 0, 0],
    // Too long: it has none. Nor has one of which something could not be read.
    [OP.JUMP_IF_LESS, 8, 0, 0, 0, "nameless"],
    [OP.JUMP_IF_ABOVE, 8, 0, 0, NAME_ROOM, "nameless"],
    [OP.JUMP_IF_EQUAL, 9, 0, 0, 0, "named"],
    "nameless",
    [OP.MOVE_CONSTANT, 8, 0, 0, 0],
    "named",
    [OP.STORE, 10, 8, word(WORD.nameBytes), 0],
    ...write(HEAD_AT, [OP.MOVE_CONSTANT, 3, 0, 0, HEAD_BYTES]),
    [OP.JUMP_IF_EQUAL, 8, 0, 0, 0, "end"],
    ...write(NAME_AT, [OP.MOVE, 3, 8, 0, 0]),
  ];
}

let loaded: number | undefined;
let wasTried = false;

/** A descriptor of the program; loaded once, which takes some 30 ms. Undefined where the kernel does not have it or let us. */
export function fileProgram(): number | undefined {
  if (wasTried) return loaded;
  wasTried = true;
  const layout = kernelStructs(STRUCTS);
  const types = kernelTypes({ function: "bpf_iter_task_file", struct: "file", members: [] });
  if (types === undefined || layout === undefined || Object.keys(STRUCTS).some((name) => layout[name] === undefined)) return undefined;
  loaded = loadProgram(program(layout), { name: "floe_files", iterates: types.functionId });
  return loaded;
}

/** What is said of one descriptor. */
export class FileRecord {
  readonly fd: number;
  /** Which open file description it is: equal for those that are one. */
  readonly file: number;
  readonly pos: bigint;
  /** As in fdinfo. */
  readonly flags: number;
  /** Which inode, on which mount. */
  readonly place: string;
  readonly mountId: number;
  readonly inodeNumber: bigint;
  readonly isOwned: boolean;
  /** fdinfo says no more than all of this. */
  readonly isPlain: boolean;
  /** Which namespaces the process is in: equal for those that are in the same ones. Undefined: it is not known. */
  readonly namespaces: string | undefined;
  /** As readlink(2) has it; undefined: it is too long. */
  readonly link: string | undefined;

  static fdOf(bytes: Buffer): number {
    return bytes.readUInt32LE(WORD.fd * 8);
  }

  constructor(bytes: Buffer, at: number) {
    const word = (which: Word) => bytes.readBigUInt64LE(at + which * 8);
    const nameBytes = Number(word(WORD.nameBytes));
    this.fd = Number(word(WORD.fd));
    // Addresses of the kernel are multiples of 8 and differ in the lower 57 bits: they fit into a number.
    this.file = Number((word(WORD.file) & ADDRESS) >> 3n);
    this.pos = bytes.readBigInt64LE(at + WORD.pos * 8);
    this.flags = (Number(word(WORD.flags)) & ~O_CLOEXEC) | (word(WORD.closeOnExec) === 0n ? 0 : O_CLOEXEC);
    this.place = `${word(WORD.mount)}/${word(WORD.inode)}`;
    this.mountId = bytes.readInt32LE(at + WORD.mountId * 8);
    this.inodeNumber = word(WORD.inodeNumber);
    this.isOwned = word(WORD.isOwned) !== 0n;
    this.isPlain = word(WORD.isLocked) === 0n && word(WORD.more) === 0n;
    const spaces = [WORD.namespaces, WORD.userNamespace, WORD.pidNamespace].map(word);
    this.namespaces = spaces.includes(0n) ? undefined : spaces.join("/");
    const start = at + HEAD_BYTES;
    this.link = nameBytes === 0 ? undefined : bytes.toString("utf8", start, start + nameBytes - 1);
  }
}
const ADDRESS = (1n << 56n) - 1n;
const O_CLOEXEC = 0o2000000;

/** The records of a process, one behind another: good until the next call. Throws KernelError. */
export function readRecords(program: number, pid: number): Buffer {
  return readIterator(program, pid);
}

/** Where each record begins, and where the last one ends. */
export function* eachRecord(bytes: Buffer): Generator<{ readonly start: number; readonly end: number }> {
  for (let start = 0; start < bytes.length; ) {
    const end = start + HEAD_BYTES + bytes.readUInt32LE(start + WORD.nameBytes * 8);
    yield { start, end };
    start = end;
  }
}
