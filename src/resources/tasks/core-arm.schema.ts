/**
 * Image messages: user_arm_regs_entry, user_arm_vfpstate_entry, thread_info_arm.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";

export const userArmRegsEntry = message("user_arm_regs_entry", () => ({
  r0: required.uint32(1),
  r1: required.uint32(2),
  r2: required.uint32(3),
  r3: required.uint32(4),
  r4: required.uint32(5),
  r5: required.uint32(6),
  r6: required.uint32(7),
  r7: required.uint32(8),
  r8: required.uint32(9),
  r9: required.uint32(10),
  r10: required.uint32(11),
  fp: required.uint32(12),
  ip: required.uint32(13),
  sp: required.uint32(14),
  lr: required.uint32(15),
  pc: required.uint32(16),
  cpsr: required.uint32(17),
  orig_r0: required.uint32(18),
}));
export type UserArmRegsEntry = Infer<typeof userArmRegsEntry>;

export const userArmVfpstateEntry = message("user_arm_vfpstate_entry", () => ({
  vfp_regs: repeated.uint64(1),
  fpscr: required.uint32(2),
  fpexc: required.uint32(3),
  fpinst: required.uint32(4),
  fpinst2: required.uint32(5),
}));
export type UserArmVfpstateEntry = Infer<typeof userArmVfpstateEntry>;

export const threadInfoArm = message("thread_info_arm", () => ({
  clear_tid_addr: required.uint64(1, { hex: true }),
  tls: required.uint32(2),
  gpregs: required.message(3, () => userArmRegsEntry, { hex: true }),
  fpstate: required.message(4, () => userArmVfpstateEntry),
}));
export type ThreadInfoArm = Infer<typeof threadInfoArm>;
