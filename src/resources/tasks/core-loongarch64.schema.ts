/**
 * Image messages: user_loongarch64_gpregs_entry, user_loongarch64_fpregs_entry, thread_info_loongarch64.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";

export const userLoongarch64GpregsEntry = message("user_loongarch64_gpregs_entry", () => ({
  regs: repeated.uint64(1),
  pc: required.uint64(2),
}));
export type UserLoongarch64GpregsEntry = Infer<typeof userLoongarch64GpregsEntry>;

export const userLoongarch64FpregsEntry = message("user_loongarch64_fpregs_entry", () => ({
  regs: repeated.uint64(1),
  fcc: required.uint64(2),
  fcsr: required.uint32(3),
}));
export type UserLoongarch64FpregsEntry = Infer<typeof userLoongarch64FpregsEntry>;

export const threadInfoLoongarch64 = message("thread_info_loongarch64", () => ({
  clear_tid_addr: required.uint64(1, { hex: true }),
  tls: required.uint64(2),
  gpregs: required.message(3, () => userLoongarch64GpregsEntry, { hex: true }),
  fpregs: required.message(4, () => userLoongarch64FpregsEntry, { hex: true }),
}));
export type ThreadInfoLoongarch64 = Infer<typeof threadInfoLoongarch64>;
