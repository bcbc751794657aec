/**
 * Image messages: user_s390_regs_entry, user_s390_vxrs_low_entry, user_s390_vxrs_high_entry, user_s390_fpregs_entry, user_s390_gs_cb_entry, user_s390_ri_entry, thread_info_s390.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const userS390RegsEntry = message("user_s390_regs_entry", () => ({
  psw_mask: required.uint64(1),
  psw_addr: required.uint64(2),
  gprs: repeated.uint64(3),
  acrs: repeated.uint32(4),
  orig_gpr2: required.uint64(5),
  system_call: required.uint32(6),
}));
export type UserS390RegsEntry = Infer<typeof userS390RegsEntry>;

export const userS390VxrsLowEntry = message("user_s390_vxrs_low_entry", () => ({
  regs: repeated.uint64(1),
}));
export type UserS390VxrsLowEntry = Infer<typeof userS390VxrsLowEntry>;

export const userS390VxrsHighEntry = message("user_s390_vxrs_high_entry", () => ({
  regs: repeated.uint64(1),
}));
export type UserS390VxrsHighEntry = Infer<typeof userS390VxrsHighEntry>;

export const userS390FpregsEntry = message("user_s390_fpregs_entry", () => ({
  fpc: required.uint32(1),
  fprs: repeated.uint64(2),
}));
export type UserS390FpregsEntry = Infer<typeof userS390FpregsEntry>;

export const userS390GsCbEntry = message("user_s390_gs_cb_entry", () => ({
  regs: repeated.uint64(1),
}));
export type UserS390GsCbEntry = Infer<typeof userS390GsCbEntry>;

export const userS390RiEntry = message("user_s390_ri_entry", () => ({
  ri_on: required.uint32(1),
  regs: repeated.uint64(2),
}));
export type UserS390RiEntry = Infer<typeof userS390RiEntry>;

export const threadInfoS390 = message("thread_info_s390", () => ({
  clear_tid_addr: required.uint64(1, { hex: true }),
  gpregs: required.message(2, () => userS390RegsEntry, { hex: true }),
  fpregs: required.message(3, () => userS390FpregsEntry, { hex: true }),
  vxrs_low: optional.message(4, () => userS390VxrsLowEntry, { hex: true }),
  vxrs_high: optional.message(5, () => userS390VxrsHighEntry, { hex: true }),
  gs_cb: optional.message(6, () => userS390GsCbEntry, { hex: true }),
  gs_bc: optional.message(7, () => userS390GsCbEntry, { hex: true }),
  ri_cb: optional.message(8, () => userS390RiEntry, { hex: true }),
}));
export type ThreadInfoS390 = Infer<typeof threadInfoS390>;
