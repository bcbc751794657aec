/**
 * Lines of /proc/PID/fdinfo/N that belong to one kind of file, proc_pid_fdinfo(5).
 *
 * Each function throws the typed error when the lines of its kind are not there: the caller has found out by the link
 * text (`anon_inode:[eventfd]`) what kind it is.
 */
import { type FdInfo, fdInfoField } from "./fdinfo.js";
import { bigDecimal, bigHex, decimal, hex, procTextError } from "./text.js";

const WHERE = "/proc/PID/fdinfo";

function required(info: FdInfo, name: string): string {
  const text = fdInfoField(info, name);
  if (text === undefined) throw procTextError(WHERE, `it has no line "${name}"`);
  return text;
}

/** `key:value` pairs of a line, which may have blanks behind the colon (`tfd:        5 events:       19`). */
function pairs(line: string): ReadonlyMap<string, string> {
  return new Map([...line.matchAll(/([a-z_-]+): *([^ ]+)/g)].map(([, key = "", text = ""]) => [key, text] as const));
}

function pair(line: string, fields: ReadonlyMap<string, string>, key: string): string {
  const text = fields.get(key);
  if (text === undefined) throw procTextError(WHERE, `the line "${line.slice(0, 100)}" has no ${key}`);
  return text;
}

export interface EventfdInfo {
  readonly count: bigint;
  /** Number of the kernel object, since 5.2; equal for duplicates. */
  readonly id: number | undefined;
  /** Since 6.5; false where the kernel does not tell. */
  readonly semaphore: boolean;
}

/** eventfd(2). */
export function eventfdInfo(info: FdInfo): EventfdInfo {
  const id = fdInfoField(info, "eventfd-id");
  return {
    count: bigHex(required(info, "eventfd-count"), WHERE),
    id: id === undefined ? undefined : decimal(id, WHERE),
    semaphore: fdInfoField(info, "eventfd-semaphore") === "1",
  };
}

/** A descriptor watched by an epoll. */
export interface EpollTarget {
  /** Number under which it was added; it may have been closed or reused since. */
  readonly fd: number;
  readonly events: number;
  readonly data: bigint;
  readonly pos: bigint;
  readonly inode: bigint;
  /** Device of the file, as the kernel numbers it inside (major << 20 | minor). */
  readonly device: number;
}

/** epoll(7): the `tfd:` lines, in the kernel's order (by file, then number). */
export function epollTargets(info: FdInfo): EpollTarget[] {
  return info.lines
    .filter((line) => line.startsWith("tfd:"))
    .map((line) => {
      const fields = pairs(line);
      return {
        fd: decimal(pair(line, fields, "tfd"), WHERE),
        events: hex(pair(line, fields, "events"), WHERE),
        data: bigHex(pair(line, fields, "data"), WHERE),
        pos: bigDecimal(fields.get("pos") ?? "0", WHERE),
        inode: bigHex(fields.get("ino") ?? "0", WHERE),
        device: hex(fields.get("sdev") ?? "0", WHERE),
      };
    });
}

/** signalfd(2): the signals it takes, bit n-1 for signal n. */
export function signalfdMask(info: FdInfo): bigint {
  return bigHex(required(info, "sigmask"), WHERE);
}

export interface TimerfdInfo {
  readonly clockId: number;
  /** Expirations nobody has read yet. */
  readonly ticks: bigint;
  /** Flags of the last timerfd_settime(2). */
  readonly setTimeFlags: number;
  /** Time left, and the interval. */
  readonly value: { readonly seconds: bigint; readonly nanoseconds: number };
  readonly interval: { readonly seconds: bigint; readonly nanoseconds: number };
}

function timespec(text: string): { seconds: bigint; nanoseconds: number } {
  const [, seconds, nanoseconds] = /^\((-?\d+), (\d+)\)$/.exec(text) ?? [];
  if (seconds === undefined || nanoseconds === undefined) throw procTextError(WHERE, `"${text}" is not a time`);
  return { seconds: BigInt(seconds), nanoseconds: Number(nanoseconds) };
}

/** timerfd_create(2). */
export function timerfdInfo(info: FdInfo): TimerfdInfo {
  return {
    clockId: decimal(required(info, "clockid"), WHERE),
    ticks: bigDecimal(required(info, "ticks"), WHERE),
    setTimeFlags: Number.parseInt(required(info, "settime flags"), 8),
    value: timespec(required(info, "it_value")),
    interval: timespec(required(info, "it_interval")),
  };
}

/** struct file_handle, as open_by_handle_at(2) takes it. */
export interface FileHandle {
  readonly type: number;
  readonly bytes: Buffer;
}

function fileHandle(fields: ReadonlyMap<string, string>): FileHandle | undefined {
  const text = fields.get("f_handle");
  if (text === undefined) return undefined;
  const size = hex(fields.get("fhandle-bytes") ?? "0", WHERE);
  const bytes = Buffer.from(text, "hex");
  if (bytes.length !== size) throw procTextError(WHERE, `a file handle of ${size} bytes has ${bytes.length}`);
  return { type: hex(fields.get("fhandle-type") ?? "0", WHERE), bytes };
}

export interface InotifyWatch {
  readonly wd: number;
  readonly inode: bigint;
  /** Device, as the kernel numbers it inside (major << 20 | minor). */
  readonly device: number;
  readonly mask: number;
  readonly ignoredMask: number;
  /** Undefined where the file system gives no handles. */
  readonly handle: FileHandle | undefined;
}

/** inotify(7). */
export function inotifyWatches(info: FdInfo): InotifyWatch[] {
  return info.lines
    .filter((line) => line.startsWith("inotify wd:"))
    .map((line) => {
      const fields = pairs(line);
      return {
        wd: hex(pair(line, fields, "wd"), WHERE),
        inode: bigHex(pair(line, fields, "ino"), WHERE),
        device: hex(pair(line, fields, "sdev"), WHERE),
        mask: hex(pair(line, fields, "mask"), WHERE),
        ignoredMask: hex(fields.get("ignored_mask") ?? "0", WHERE),
        handle: fileHandle(fields),
      };
    });
}

/** A mark of a fanotify group. */
export interface FanotifyMark {
  readonly on: "inode" | "mount" | "filesystem";
  /** Of an inode mark. */
  readonly inode: bigint | undefined;
  /** Of an inode or file-system mark. */
  readonly device: number | undefined;
  /** Of a mount mark. */
  readonly mountId: number | undefined;
  readonly flags: number;
  readonly mask: number;
  readonly ignoredMask: number;
  readonly handle: FileHandle | undefined;
}

export interface FanotifyInfo {
  /** Flags and event flags of fanotify_init(2). */
  readonly flags: number;
  readonly eventFlags: number;
  readonly marks: readonly FanotifyMark[];
}

function fanotifyMark(line: string): FanotifyMark {
  const fields = pairs(line);
  const optional = (key: string) => (fields.has(key) ? hex(fields.get(key) ?? "", WHERE) : undefined);
  const inode = fields.get("ino");
  const mountId = optional("mnt_id");
  return {
    on: inode !== undefined ? "inode" : mountId !== undefined ? "mount" : "filesystem",
    inode: inode === undefined ? undefined : bigHex(inode, WHERE),
    device: optional("sdev"),
    mountId,
    flags: optional("mflags") ?? 0,
    mask: hex(pair(line, fields, "mask"), WHERE),
    ignoredMask: optional("ignored_mask") ?? 0,
    handle: fileHandle(fields),
  };
}

/** fanotify(7). */
export function fanotifyInfo(info: FdInfo): FanotifyInfo {
  const lines = info.lines.filter((line) => line.startsWith("fanotify "));
  const head = lines.find((line) => line.startsWith("fanotify flags:"));
  if (head === undefined) throw procTextError(WHERE, 'it has no line "fanotify flags"');
  const fields = pairs(head);
  return {
    flags: hex(pair(head, fields, "flags"), WHERE),
    eventFlags: hex(pair(head, fields, "event-flags"), WHERE),
    marks: lines.filter((line) => line !== head).map(fanotifyMark),
  };
}

/** pidfd_open(2). */
export interface PidfdInfo {
  /** In the reader's pid namespace; -1 when the process is dead and reaped, 0 when it is outside. */
  readonly pid: number;
  /** In each pid namespace from the reader's inwards. */
  readonly nsPid: readonly number[];
}

export function pidfdInfo(info: FdInfo): PidfdInfo {
  return {
    pid: decimal(required(info, "Pid"), WHERE),
    nsPid: (fdInfoField(info, "NSpid") ?? "")
      .split(/\s+/)
      .filter((text) => text !== "")
      .map((text) => decimal(text, WHERE)),
  };
}

/** /dev/net/tun: name of the attached interface; empty when not attached. */
export function tunInterface(info: FdInfo): string {
  return fdInfoField(info, "iff") ?? "";
}

/** bpf(2), BPF_MAP_CREATE. */
export interface BpfMapInfo {
  readonly type: number;
  readonly keySizeBytes: number;
  readonly valueSizeBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly extra: bigint;
  readonly memlockBytes: bigint;
  readonly id: number;
  readonly frozen: boolean;
}

export function bpfMapInfo(info: FdInfo): BpfMapInfo {
  const number = (name: string) => decimal(required(info, name), WHERE);
  return {
    type: number("map_type"),
    keySizeBytes: number("key_size"),
    valueSizeBytes: number("value_size"),
    maxEntries: number("max_entries"),
    flags: hex(required(info, "map_flags"), WHERE),
    extra: bigHex(fdInfoField(info, "map_extra") ?? "0", WHERE),
    memlockBytes: bigDecimal(fdInfoField(info, "memlock") ?? "0", WHERE),
    id: number("map_id"),
    frozen: fdInfoField(info, "frozen") === "1",
  };
}
