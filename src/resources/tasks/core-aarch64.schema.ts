/**
 * Image messages: user_aarch64_regs_entry, user_aarch64_fpsimd_context_entry, pac_address_keys, pac_generic_keys, pac_keys, thread_info_aarch64.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const userAarch64RegsEntry = message("user_aarch64_regs_entry", () => ({
  regs: repeated.uint64(1),
  sp: required.uint64(2),
  pc: required.uint64(3),
  pstate: required.uint64(4),
}));
export type UserAarch64RegsEntry = Infer<typeof userAarch64RegsEntry>;

export const userAarch64FpsimdContextEntry = message("user_aarch64_fpsimd_context_entry", () => ({
  vregs: repeated.uint64(1),
  fpsr: required.uint32(2),
  fpcr: required.uint32(3),
}));
export type UserAarch64FpsimdContextEntry = Infer<typeof userAarch64FpsimdContextEntry>;

export const pacAddressKeys = message("pac_address_keys", () => ({
  apiakey_lo: required.uint64(1),
  apiakey_hi: required.uint64(2),
  apibkey_lo: required.uint64(3),
  apibkey_hi: required.uint64(4),
  apdakey_lo: required.uint64(5),
  apdakey_hi: required.uint64(6),
  apdbkey_lo: required.uint64(7),
  apdbkey_hi: required.uint64(8),
  pac_enabled_key: required.uint64(9),
}));
export type PacAddressKeys = Infer<typeof pacAddressKeys>;

export const pacGenericKeys = message("pac_generic_keys", () => ({
  apgakey_lo: required.uint64(1),
  apgakey_hi: required.uint64(2),
}));
export type PacGenericKeys = Infer<typeof pacGenericKeys>;

export const pacKeys = message("pac_keys", () => ({
  pac_address_keys: optional.message(6, () => pacAddressKeys),
  pac_generic_keys: optional.message(7, () => pacGenericKeys),
}));
export type PacKeys = Infer<typeof pacKeys>;

export const threadInfoAarch64 = message("thread_info_aarch64", () => ({
  clear_tid_addr: required.uint64(1, { hex: true }),
  tls: required.uint64(2),
  gpregs: required.message(3, () => userAarch64RegsEntry, { hex: true }),
  fpsimd: required.message(4, () => userAarch64FpsimdContextEntry),
  pac_keys: optional.message(5, () => pacKeys),
}));
export type ThreadInfoAarch64 = Infer<typeof threadInfoAarch64>;
