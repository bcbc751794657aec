/**
 * Registers of a thread: general, floating point, vector, TLS descriptors, clear_child_tid.
 *
 * Read from   PTRACE_GETREGS, PTRACE_GETREGSET(NT_X86_XSTATE), PTRACE_GET_THREAD_AREA, prctl(PR_GET_TID_ADDRESS)
 * Made with   PTRACE_SETREGSET, PTRACE_SETREGS, set_tid_address(2)
 *
 * The image's fields hold the components that CRIU knows, up to AVX-512 and PKRU, and AMX tiles in fields of our own. What
 * uses others (APX) is refused (vector-state.ts).
 */
import type { Program } from "../../target/program.js";
import { getReg, setReg, type RegisterName } from "../../target/x86_64/registers.js";
import { XSTATE, type XstateLayout, component } from "../../target/x86_64/xstate.js";
import { SYS } from "../../linux/syscalls.js";
import type { ThreadInfoX86, UserX86CetEntry, UserX86FpregsEntry, UserX86RegsEntry } from "./core-x86.schema.js";

const PR_GET_TID_ADDRESS = 40;
const MODE_NATIVE = 1;
const MODE_COMPAT = 2;
const USER32_CS = 0x23n;
const NO_SYSCALL = 0xffffffffffffffffn;

/** Field of the image message ↔ register of struct user_regs_struct. */
const NAMES = {
  r15: "r15",
  r14: "r14",
  r13: "r13",
  r12: "r12",
  bp: "rbp",
  bx: "rbx",
  r11: "r11",
  r10: "r10",
  r9: "r9",
  r8: "r8",
  ax: "rax",
  cx: "rcx",
  dx: "rdx",
  si: "rsi",
  di: "rdi",
  orig_ax: "orig_rax",
  ip: "rip",
  cs: "cs",
  flags: "eflags",
  sp: "rsp",
  ss: "ss",
  fs_base: "fs_base",
  gs_base: "gs_base",
  ds: "ds",
  es: "es",
  fs: "fs",
  gs: "gs",
} as const satisfies Record<string, RegisterName>;

type GpField = keyof typeof NAMES;
const FIELDS = Object.keys(NAMES) as GpField[];

/** struct user_regs_struct → message. */
export function gpregsToImage(regs: Buffer): UserX86RegsEntry {
  const out = { mode: getReg(regs, "cs") === USER32_CS ? MODE_COMPAT : MODE_NATIVE } as UserX86RegsEntry;
  for (const field of FIELDS) out[field] = getReg(regs, NAMES[field]);
  return out;
}

/** Message → struct user_regs_struct, ready to be set: no system call is under way any more. */
export function gpregsFromImage(entry: UserX86RegsEntry): Buffer {
  const regs = Buffer.alloc(27 * 8);
  for (const field of FIELDS) setReg(regs, NAMES[field], entry[field]);
  setReg(regs, "orig_rax", NO_SYSCALL);
  return regs;
}

function words32(area: Buffer, offset: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => area.readUInt32LE(offset + i * 4));
}

function words64(area: Buffer, offset: number, count: number): bigint[] {
  return Array.from({ length: count }, (_, i) => area.readBigUInt64LE(offset + i * 8));
}

/** XSAVE area (standard format, as ptrace gives it) → message. */
export function fpregsToImage(area: Buffer, layout: XstateLayout, shadowStack?: UserX86CetEntry): UserX86FpregsEntry {
  const out: UserX86FpregsEntry = {
    cwd: area.readUInt16LE(0),
    swd: area.readUInt16LE(2),
    twd: area.readUInt16LE(4),
    fop: area.readUInt16LE(6),
    rip: area.readBigUInt64LE(8),
    rdp: area.readBigUInt64LE(16),
    mxcsr: area.readUInt32LE(24),
    mxcsr_mask: area.readUInt32LE(28),
    st_space: words32(area, 32, 32),
    xmm_space: words32(area, 160, 64),
    padding: [],
  };
  if (area.length <= XSTATE.headerOffset) return out;
  const at = (n: number) => component(layout, area, n);
  const list32 = (n: number, count: number) => (at(n) === undefined ? [] : words32(area, at(n) ?? 0, count));
  const list64 = (n: number, count: number) => (at(n) === undefined ? [] : words64(area, at(n) ?? 0, count));
  out.xsave = {
    xstate_bv: area.readBigUInt64LE(XSTATE.headerOffset),
    ymmh_space: list32(XSTATE.avx, 64),
    bndreg_state: list64(XSTATE.bndregs, 8),
    bndcsr_state: list64(XSTATE.bndcsr, 8),
    opmask_reg: list64(XSTATE.opmask, 8),
    zmm_upper: list64(XSTATE.zmmHi256, 64),
    hi16_zmm: list64(XSTATE.hi16Zmm, 128),
    pkru: list32(XSTATE.pkru, 2),
    cet: shadowStack ?? { cet: 0n, ssp: 0n },
  };
  const tiles = out.xsave.xstate_bv & TILES;
  out.xsave.xstate_bv &= ~TILES;
  const bytes = (n: number): Buffer | undefined => {
    const found = (tiles >> BigInt(n)) & 1n ? layout.components.get(n) : undefined;
    return found && Buffer.from(area.subarray(found.offset, found.offset + found.sizeBytes));
  };
  const [config, data] = [bytes(XSTATE.tileConfig), bytes(XSTATE.tileData)];
  if (config !== undefined) out.xsave.tile_config = config;
  if (data !== undefined) out.xsave.tile_data = data;
  return out;
}

/** Bits of the components of AMX. */
const TILES = (1n << BigInt(XSTATE.tileConfig)) | (1n << BigInt(XSTATE.tileData));

/** Writes at most `most` words to `at` bytes into an area of zeros; undefined: the processor has no place for them. */
function put32(area: Buffer, at: number | undefined, words: readonly number[], most: number): void {
  if (at === undefined) return;
  for (let i = 0; i < words.length && i < most; i++) if (words[i] !== 0) area.writeUInt32LE(words[i] as number, at + i * 4);
}

function put64(area: Buffer, at: number | undefined, words: readonly bigint[], most: number): void {
  if (at === undefined) return;
  for (let i = 0; i < words.length && i < most; i++) if (words[i] !== 0n) area.writeBigUInt64LE(words[i] as bigint, at + i * 8);
}

/**
 * Message → XSAVE area of `sizeBytes` for PTRACE_SETREGSET.
 *
 * Components that this processor lacks are left out when they hold nothing; the caller has checked that they do.
 */
export function fpregsFromImage(entry: UserX86FpregsEntry, layout: XstateLayout): Buffer {
  const area = Buffer.alloc(layout.sizeBytes);
  area.writeUInt16LE(entry.cwd & 0xffff, 0);
  area.writeUInt16LE(entry.swd & 0xffff, 2);
  area.writeUInt16LE(entry.twd & 0xffff, 4);
  area.writeUInt16LE(entry.fop & 0xffff, 6);
  area.writeBigUInt64LE(entry.rip, 8);
  area.writeBigUInt64LE(entry.rdp, 16);
  area.writeUInt32LE(entry.mxcsr, 24);
  area.writeUInt32LE(entry.mxcsr_mask, 28);
  put32(area, 32, entry.st_space, 32);
  put32(area, 160, entry.xmm_space, 64);
  const { xsave } = entry;
  let bv = 3n;
  if (xsave !== undefined) {
    bv = xsave.xstate_bv;
    const at = (n: number) => component(layout, area, n);
    put32(area, at(XSTATE.avx), xsave.ymmh_space, 64);
    put64(area, at(XSTATE.bndregs), xsave.bndreg_state, 8);
    put64(area, at(XSTATE.bndcsr), xsave.bndcsr_state, 8);
    put64(area, at(XSTATE.opmask), xsave.opmask_reg, 8);
    put64(area, at(XSTATE.zmmHi256), xsave.zmm_upper, 64);
    put64(area, at(XSTATE.hi16Zmm), xsave.hi16_zmm, 128);
    put32(area, at(XSTATE.pkru), xsave.pkru, 2);
    for (const [n, bytes] of [
      [XSTATE.tileConfig, xsave.tile_config],
      [XSTATE.tileData, xsave.tile_data],
    ] as const) {
      if (bytes === undefined) continue;
      area.set(bytes.subarray(0, layout.components.get(n)?.sizeBytes ?? 0), component(layout, area, n) ?? 0);
      bv |= 1n << BigInt(n);
    }
  }
  if (layout.sizeBytes > XSTATE.headerOffset) area.writeBigUInt64LE(bv & layout.supported, XSTATE.headerOffset);
  return area;
}

/** Asks for the address that the kernel clears when the thread exits; `into` gets it when the program has run. */
export function readClearTidAddress(program: Program, into: (address: bigint) => void): () => void {
  const out = program.buffer(8);
  program.call(SYS.prctl, PR_GET_TID_ADDRESS, out, 0, 0, 0);
  return () => into(out.bytes().readBigUInt64LE(0));
}

/** Makes thread_info of a stopped thread; `regs` already say where the thread goes on. The vector registers come later. */
export function threadInfo(regs: Buffer): ThreadInfoX86 {
  return new ThreadInfo(regs);
}

/** The registers take their form when somebody asks for them: not while the thread stands still. */
class ThreadInfo implements ThreadInfoX86 {
  clear_tid_addr = 0n;
  fpregs = undefined as never;
  readonly #regs: Buffer;
  #gpregs: ThreadInfoX86["gpregs"] | undefined;
  #tls: ThreadInfoX86["tls"] | undefined;

  constructor(regs: Buffer) {
    this.#regs = regs;
  }

  get gpregs(): ThreadInfoX86["gpregs"] {
    this.#gpregs ??= gpregsToImage(this.#regs);
    return this.#gpregs;
  }

  set gpregs(value: ThreadInfoX86["gpregs"]) {
    this.#gpregs = value;
  }

  get tls(): ThreadInfoX86["tls"] {
    this.#tls ??= [12, 13, 14].map(emptyTls);
    return this.#tls;
  }

  set tls(value: ThreadInfoX86["tls"]) {
    this.#tls = value;
  }
}

function emptyTls(entryNumber: number) {
  return {
    entry_number: entryNumber,
    base_addr: 0,
    limit: 0,
    seg_32bit: false,
    contents_h: false,
    contents_l: false,
    read_exec_only: true,
    limit_in_pages: false,
    seg_not_present: true,
    usable: false,
  };
}
