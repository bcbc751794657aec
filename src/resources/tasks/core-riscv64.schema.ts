/**
 * Image messages: user_riscv64_regs_entry, user_riscv64_d_ext_entry, thread_info_riscv64.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";

export const userRiscv64RegsEntry = message("user_riscv64_regs_entry", () => ({
  pc: required.uint64(1),
  ra: required.uint64(2),
  sp: required.uint64(3),
  gp: required.uint64(4),
  tp: required.uint64(5),
  t0: required.uint64(6),
  t1: required.uint64(7),
  t2: required.uint64(8),
  s0: required.uint64(9),
  s1: required.uint64(10),
  a0: required.uint64(11),
  a1: required.uint64(12),
  a2: required.uint64(13),
  a3: required.uint64(14),
  a4: required.uint64(15),
  a5: required.uint64(16),
  a6: required.uint64(17),
  a7: required.uint64(18),
  s2: required.uint64(19),
  s3: required.uint64(20),
  s4: required.uint64(21),
  s5: required.uint64(22),
  s6: required.uint64(23),
  s7: required.uint64(24),
  s8: required.uint64(25),
  s9: required.uint64(26),
  s10: required.uint64(27),
  s11: required.uint64(28),
  t3: required.uint64(29),
  t4: required.uint64(30),
  t5: required.uint64(31),
  t6: required.uint64(32),
}));
export type UserRiscv64RegsEntry = Infer<typeof userRiscv64RegsEntry>;

export const userRiscv64DExtEntry = message("user_riscv64_d_ext_entry", () => ({
  f: repeated.uint64(1),
  fcsr: required.uint32(2),
}));
export type UserRiscv64DExtEntry = Infer<typeof userRiscv64DExtEntry>;

export const threadInfoRiscv64 = message("thread_info_riscv64", () => ({
  clear_tid_addr: required.uint64(1, { hex: true }),
  tls: required.uint64(2),
  gpregs: required.message(3, () => userRiscv64RegsEntry, { hex: true }),
  fpsimd: required.message(4, () => userRiscv64DExtEntry),
}));
export type ThreadInfoRiscv64 = Infer<typeof threadInfoRiscv64>;
