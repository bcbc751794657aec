/**
 * prctl(2), one function per request. They act on the calling process or thread.
 *
 * The numbers are exported for programs that run inside a target. Constants: uapi/linux/prctl.h.
 */
import { ERRNO, checked } from "./errno.js";
import { addressOf, type Arg, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";
import { cstring, textOf } from "./text.js";

export const PR_SET_PDEATHSIG = 1;
export const PR_GET_PDEATHSIG = 2;
export const PR_GET_DUMPABLE = 3;
export const PR_SET_DUMPABLE = 4;
export const PR_GET_KEEPCAPS = 7;
export const PR_SET_KEEPCAPS = 8;
export const PR_SET_NAME = 15;
export const PR_GET_NAME = 16;
export const PR_GET_SECCOMP = 21;
export const PR_SET_SECCOMP = 22;
export const PR_CAPBSET_READ = 23;
export const PR_CAPBSET_DROP = 24;
export const PR_GET_TSC = 25;
export const PR_SET_TSC = 26;
export const PR_GET_SECUREBITS = 27;
export const PR_SET_SECUREBITS = 28;
export const PR_SET_TIMERSLACK = 29;
export const PR_GET_TIMERSLACK = 30;
export const PR_MCE_KILL = 33;
export const PR_MCE_KILL_GET = 34;
export const PR_SET_MM = 35;
export const PR_SET_CHILD_SUBREAPER = 36;
export const PR_GET_CHILD_SUBREAPER = 37;
export const PR_SET_NO_NEW_PRIVS = 38;
export const PR_GET_NO_NEW_PRIVS = 39;
export const PR_GET_TID_ADDRESS = 40;
export const PR_SET_THP_DISABLE = 41;
export const PR_GET_THP_DISABLE = 42;
export const PR_CAP_AMBIENT = 47;
export const PR_GET_SPECULATION_CTRL = 52;
export const PR_SET_SPECULATION_CTRL = 53;
export const PR_SET_IO_FLUSHER = 57;
export const PR_GET_IO_FLUSHER = 58;
export const PR_SET_SYSCALL_USER_DISPATCH = 59;
export const PR_SET_MDWE = 65;
export const PR_GET_MDWE = 66;
export const PR_SET_MEMORY_MERGE = 67;
export const PR_GET_MEMORY_MERGE = 68;
export const PR_TIMER_CREATE_RESTORE_IDS = 77;
export const PR_SET_PTRACER = 0x5961_6d61;
export const PR_SET_VMA = 0x5356_4d41;
export const PR_SET_VMA_ANON_NAME = 0;

export const PR_SET_MM_MAP = 14;
export const PR_SET_MM_MAP_SIZE = 15;

export const PR_CAP_AMBIENT_IS_SET = 1;
export const PR_CAP_AMBIENT_RAISE = 2;
export const PR_CAP_AMBIENT_LOWER = 3;
export const PR_CAP_AMBIENT_CLEAR_ALL = 4;

export const SUID_DUMP_DISABLE = 0;
export const SUID_DUMP_USER = 1;

function request(name: string, nr: number, ...args: readonly Arg[]): number {
  const [a = 0, b = 0, c = 0, d = 0] = args;
  return checked(syscallNumber(SYS.prctl, nr, a, b, c, d), () => `prctl(${name})`);
}

/** The same for requests that older kernels lack (EINVAL): undefined. */
function requestIfThere(name: string, nr: number, ...args: readonly Arg[]): number | undefined {
  const [a = 0, b = 0, c = 0, d = 0] = args;
  const got = syscallNumber(SYS.prctl, nr, a, b, c, d);
  return got === -ERRNO.EINVAL ? undefined : checked(got, () => `prctl(${name})`);
}

/** prctl(PR_SET_NAME) — name of the calling thread, cut to 15 bytes. */
export function setName(name: string): void {
  request("PR_SET_NAME", PR_SET_NAME, cstring(name));
}

/** prctl(PR_GET_NAME). */
export function getName(): string {
  const bytes = Buffer.alloc(16);
  request("PR_GET_NAME", PR_GET_NAME, bytes);
  return textOf(bytes.subarray(0, bytes.indexOf(0)));
}

/** prctl(PR_GET_PDEATHSIG) — the signal at the parent's death, 0: none. */
export function getPdeathsig(): number {
  const bytes = Buffer.alloc(4);
  request("PR_GET_PDEATHSIG", PR_GET_PDEATHSIG, bytes);
  return bytes.readInt32LE(0);
}

/** prctl(PR_SET_PDEATHSIG). */
export function setPdeathsig(signal: number): void {
  request("PR_SET_PDEATHSIG", PR_SET_PDEATHSIG, signal);
}

/** prctl(PR_GET_DUMPABLE) — SUID_DUMP_… (2: only root may read). */
export function getDumpable(): number {
  return request("PR_GET_DUMPABLE", PR_GET_DUMPABLE);
}

/** prctl(PR_SET_DUMPABLE) — 0 or 1. */
export function setDumpable(dumpable: number): void {
  request("PR_SET_DUMPABLE", PR_SET_DUMPABLE, dumpable);
}

/** prctl(PR_GET_CHILD_SUBREAPER). */
export function getChildSubreaper(): boolean {
  const bytes = Buffer.alloc(4);
  request("PR_GET_CHILD_SUBREAPER", PR_GET_CHILD_SUBREAPER, bytes);
  return bytes.readInt32LE(0) !== 0;
}

/** prctl(PR_SET_CHILD_SUBREAPER) — orphans below become children of the caller. */
export function setChildSubreaper(on: boolean): void {
  request("PR_SET_CHILD_SUBREAPER", PR_SET_CHILD_SUBREAPER, on ? 1 : 0);
}

/** prctl(PR_GET_KEEPCAPS). */
export function getKeepcaps(): boolean {
  return request("PR_GET_KEEPCAPS", PR_GET_KEEPCAPS) !== 0;
}

/** prctl(PR_GET_SECUREBITS) — uapi/linux/securebits.h. */
export function getSecurebits(): number {
  return request("PR_GET_SECUREBITS", PR_GET_SECUREBITS);
}

/** prctl(PR_GET_NO_NEW_PRIVS). */
export function getNoNewPrivs(): boolean {
  return request("PR_GET_NO_NEW_PRIVS", PR_GET_NO_NEW_PRIVS) !== 0;
}

/** prctl(PR_GET_SECCOMP) — 0 none, 2 filter; in strict mode the call kills. */
export function getSeccomp(): number {
  return request("PR_GET_SECCOMP", PR_GET_SECCOMP);
}

/** prctl(PR_CAPBSET_READ, cap) — whether the bounding set has it; undefined: the kernel does not know it. */
export function capbsetRead(capability: number): boolean | undefined {
  const got = requestIfThere(`PR_CAPBSET_READ, ${capability}`, PR_CAPBSET_READ, capability);
  return got === undefined ? undefined : got !== 0;
}

/** prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap). */
export function capAmbientIsSet(capability: number): boolean {
  return request(`PR_CAP_AMBIENT_IS_SET, ${capability}`, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability) !== 0;
}

/** prctl(PR_GET_TIMERSLACK) — nanoseconds, for the calling thread. */
export function getTimerslackNs(): number {
  return request("PR_GET_TIMERSLACK", PR_GET_TIMERSLACK);
}

/** prctl(PR_GET_THP_DISABLE) — whether transparent huge pages are off. */
export function getThpDisable(): boolean {
  return request("PR_GET_THP_DISABLE", PR_GET_THP_DISABLE) !== 0;
}

/** prctl(PR_GET_TID_ADDRESS) — what set_tid_address(2) was given; needs CONFIG_CHECKPOINT_RESTORE. */
export function getTidAddress(): bigint {
  const bytes = Buffer.alloc(8);
  request("PR_GET_TID_ADDRESS", PR_GET_TID_ADDRESS, bytes);
  return bytes.readBigUInt64LE(0);
}

/** prctl(PR_GET_TSC) — PR_TSC_ENABLE 1, PR_TSC_SIGSEGV 2. */
export function getTsc(): number {
  const bytes = Buffer.alloc(4);
  request("PR_GET_TSC", PR_GET_TSC, bytes);
  return bytes.readInt32LE(0);
}

/** prctl(PR_GET_MDWE) — memory-deny-write-execute; undefined before 6.3. */
export function getMdwe(): number | undefined {
  return requestIfThere("PR_GET_MDWE", PR_GET_MDWE);
}

/** prctl(PR_GET_MEMORY_MERGE) — whether KSM looks at all memory; undefined before 6.4 or without CONFIG_KSM. */
export function getMemoryMerge(): boolean | undefined {
  const got = requestIfThere("PR_GET_MEMORY_MERGE", PR_GET_MEMORY_MERGE);
  return got === undefined ? undefined : got !== 0;
}

/** prctl(PR_GET_IO_FLUSHER) — undefined without CAP_SYS_RESOURCE, which even reading asks for. */
export function getIoFlusher(): boolean | undefined {
  const got = syscallNumber(SYS.prctl, PR_GET_IO_FLUSHER, 0, 0, 0, 0);
  return got === -ERRNO.EINVAL || got === -ERRNO.EPERM ? undefined : checked(got, () => "prctl(PR_GET_IO_FLUSHER)") !== 0;
}

/** struct prctl_mm_map: the marks in an address space. Addresses are the target's. */
export interface MmMap {
  readonly startCode: bigint;
  readonly endCode: bigint;
  readonly startData: bigint;
  readonly endData: bigint;
  readonly startBrk: bigint;
  readonly brk: bigint;
  readonly startStack: bigint;
  readonly argStart: bigint;
  readonly argEnd: bigint;
  readonly envStart: bigint;
  readonly envEnd: bigint;
  /** Address and size of the auxiliary vector to copy from; size 0: keep the present one. */
  readonly auxv: bigint;
  readonly auxvBytes: number;
  /** Descriptor of the new /proc/PID/exe; undefined: keep the present one. */
  readonly exeFd: number | undefined;
}

export const MM_MAP_BYTES = 104;

export function encodeMmMap(map: MmMap): Buffer {
  const bytes = Buffer.alloc(MM_MAP_BYTES);
  const words = [
    map.startCode,
    map.endCode,
    map.startData,
    map.endData,
    map.startBrk,
    map.brk,
    map.startStack,
    map.argStart,
    map.argEnd,
    map.envStart,
    map.envEnd,
    map.auxv,
  ];
  words.forEach((word, i) => bytes.writeBigUInt64LE(word, i * 8));
  bytes.writeUInt32LE(map.auxvBytes, 96);
  bytes.writeInt32LE(map.exeFd ?? -1, 100);
  return bytes;
}

/** prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE) — size of the struct this kernel takes; undefined where it has no PR_SET_MM_MAP. */
export function mmMapSize(): number | undefined {
  const bytes = Buffer.alloc(4);
  const got = requestIfThere("PR_SET_MM, PR_SET_MM_MAP_SIZE", PR_SET_MM, PR_SET_MM_MAP_SIZE, addressOf(bytes), 0, 0);
  return got === undefined ? undefined : bytes.readUInt32LE(0);
}

/** prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME) — names anonymous memory in maps; false without CONFIG_ANON_VMA_NAME. */
export function setAnonymousName(range: { address: bigint; sizeBytes: bigint }, name: string): boolean {
  return (
    requestIfThere("PR_SET_VMA_ANON_NAME", PR_SET_VMA, PR_SET_VMA_ANON_NAME, range.address, range.sizeBytes, cstring(name)) !== undefined
  );
}

/** prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET) — whether timers can be made with given ids (6.15). */
export function hasTimerCreateRestoreIds(): boolean {
  const PR_TIMER_CREATE_RESTORE_IDS_GET = 2;
  return requestIfThere("PR_TIMER_CREATE_RESTORE_IDS_GET", PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET) !== undefined;
}
