/**
 * Image messages: user_x86_regs_entry, user_x86_cet_entry, user_x86_xsave_entry, user_x86_fpregs_entry, user_desc_t, thread_info_x86, user_x86_regs_mode.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "../../images/codec/schema.js";

export const userX86RegsMode = enumeration("user_x86_regs_mode", {
  NATIVE: 1,
  COMPAT: 2,
});

export const userX86RegsEntry = message("user_x86_regs_entry", () => ({
  r15: required.uint64(1),
  r14: required.uint64(2),
  r13: required.uint64(3),
  r12: required.uint64(4),
  bp: required.uint64(5),
  bx: required.uint64(6),
  r11: required.uint64(7),
  r10: required.uint64(8),
  r9: required.uint64(9),
  r8: required.uint64(10),
  ax: required.uint64(11),
  cx: required.uint64(12),
  dx: required.uint64(13),
  si: required.uint64(14),
  di: required.uint64(15),
  orig_ax: required.uint64(16),
  ip: required.uint64(17),
  cs: required.uint64(18),
  flags: required.uint64(19),
  sp: required.uint64(20),
  ss: required.uint64(21),
  fs_base: required.uint64(22),
  gs_base: required.uint64(23),
  ds: required.uint64(24),
  es: required.uint64(25),
  fs: required.uint64(26),
  gs: required.uint64(27),
  mode: optional.enum(28, () => userX86RegsMode, { default: 1 }),
}));
export type UserX86RegsEntry = Infer<typeof userX86RegsEntry>;

export const userX86CetEntry = message("user_x86_cet_entry", () => ({
  cet: required.uint64(1),
  ssp: required.uint64(2),
}));
export type UserX86CetEntry = Infer<typeof userX86CetEntry>;

export const userX86XsaveEntry = message("user_x86_xsave_entry", () => ({
  xstate_bv: required.uint64(1),
  ymmh_space: repeated.uint32(2),
  bndreg_state: repeated.uint64(3),
  bndcsr_state: repeated.uint64(4),
  opmask_reg: repeated.uint64(5),
  zmm_upper: repeated.uint64(6),
  hi16_zmm: repeated.uint64(7),
  pkru: repeated.uint32(8),
  cet: optional.message(9, () => userX86CetEntry, { hex: true }),
  /** Components 17 and 18 (AMX), which other readers skip: xstate_bv has no bits of theirs. */
  tile_config: optional.bytes(1000, { floe: true }),
  tile_data: optional.bytes(1001, { floe: true }),
}));
export type UserX86XsaveEntry = Infer<typeof userX86XsaveEntry>;

export const userX86FpregsEntry = message("user_x86_fpregs_entry", () => ({
  cwd: required.uint32(1),
  swd: required.uint32(2),
  twd: required.uint32(3),
  fop: required.uint32(4),
  rip: required.uint64(5),
  rdp: required.uint64(6),
  mxcsr: required.uint32(7),
  mxcsr_mask: required.uint32(8),
  st_space: repeated.uint32(9),
  xmm_space: repeated.uint32(10),
  padding: repeated.uint32(11),
  xsave: optional.message(13, () => userX86XsaveEntry, { alike: true }),
}));
export type UserX86FpregsEntry = Infer<typeof userX86FpregsEntry>;

export const userDescT = message("user_desc_t", () => ({
  entry_number: required.uint32(1),
  base_addr: required.uint32(2),
  limit: required.uint32(3),
  seg_32bit: required.bool(4),
  contents_h: required.bool(5),
  contents_l: required.bool(6),
  read_exec_only: required.bool(7, { default: true }),
  limit_in_pages: required.bool(8),
  seg_not_present: required.bool(9, { default: true }),
  usable: required.bool(10),
}));
export type UserDescT = Infer<typeof userDescT>;

export const threadInfoX86 = message("thread_info_x86", () => ({
  clear_tid_addr: required.uint64(1, { hex: true }),
  gpregs: required.message(2, () => userX86RegsEntry, { hex: true }),
  fpregs: required.message(3, () => userX86FpregsEntry, { alike: true }),
  tls: repeated.message(4, () => userDescT, { alike: true }),
}));
export type ThreadInfoX86 = Infer<typeof threadInfoX86>;
