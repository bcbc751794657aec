/**
 * Image messages: user_ppc64_regs_entry, user_ppc64_fpstate_entry, user_ppc64_vrstate_entry, user_ppc64_vsxstate_entry, user_ppc64_tm_regs_entry, thread_info_ppc64.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const userPpc64RegsEntry = message("user_ppc64_regs_entry", () => ({
  gpr: repeated.uint64(1),
  nip: required.uint64(2),
  msr: required.uint64(3),
  orig_gpr3: required.uint64(4),
  ctr: required.uint64(5),
  link: required.uint64(6),
  xer: required.uint64(7),
  ccr: required.uint64(8),
  trap: required.uint64(9),
  texasr: optional.uint64(10),
  tfhar: optional.uint64(11),
  tfiar: optional.uint64(12),
}));
export type UserPpc64RegsEntry = Infer<typeof userPpc64RegsEntry>;

export const userPpc64FpstateEntry = message("user_ppc64_fpstate_entry", () => ({
  fpregs: repeated.uint64(1),
}));
export type UserPpc64FpstateEntry = Infer<typeof userPpc64FpstateEntry>;

export const userPpc64VrstateEntry = message("user_ppc64_vrstate_entry", () => ({
  vrregs: repeated.uint64(1),
  vrsave: required.uint32(2),
}));
export type UserPpc64VrstateEntry = Infer<typeof userPpc64VrstateEntry>;

export const userPpc64VsxstateEntry = message("user_ppc64_vsxstate_entry", () => ({
  vsxregs: repeated.uint64(1),
}));
export type UserPpc64VsxstateEntry = Infer<typeof userPpc64VsxstateEntry>;

export const userPpc64TmRegsEntry = message("user_ppc64_tm_regs_entry", () => ({
  gpregs: required.message(1, () => userPpc64RegsEntry),
  fpstate: optional.message(2, () => userPpc64FpstateEntry),
  vrstate: optional.message(3, () => userPpc64VrstateEntry),
  vsxstate: optional.message(4, () => userPpc64VsxstateEntry),
}));
export type UserPpc64TmRegsEntry = Infer<typeof userPpc64TmRegsEntry>;

export const threadInfoPpc64 = message("thread_info_ppc64", () => ({
  clear_tid_addr: required.uint64(1, { hex: true }),
  gpregs: required.message(2, () => userPpc64RegsEntry, { hex: true }),
  fpstate: optional.message(3, () => userPpc64FpstateEntry),
  vrstate: optional.message(4, () => userPpc64VrstateEntry),
  vsxstate: optional.message(5, () => userPpc64VsxstateEntry),
  tmstate: optional.message(6, () => userPpc64TmRegsEntry),
}));
export type ThreadInfoPpc64 = Infer<typeof threadInfoPpc64>;
