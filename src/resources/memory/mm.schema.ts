/**
 * Image messages: aio_ring_entry, mm_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { vmaEntry } from "./vma.schema.js";

export const aioRingEntry = message("aio_ring_entry", () => ({
  id: required.uint64(1),
  nr_req: required.uint32(2),
  ring_len: required.uint32(3),
}));
export type AioRingEntry = Infer<typeof aioRingEntry>;

export const floeGuardEntry = message("floe_guard_entry", () => ({
  start: required.uint64(1, { hex: true }),
  end: required.uint64(2, { hex: true }),
}));

/** The NUMA policy of a range: mode and its flags, and a bit for each node. */
export const floePolicyEntry = message("floe_policy_entry", () => ({
  start: required.uint64(1, { hex: true }),
  end: required.uint64(2, { hex: true }),
  mode: required.uint32(3, { hex: true }),
  nodes: required.bytes(4),
}));
export type FloePolicyEntry = Infer<typeof floePolicyEntry>;

export const mmEntry = message("mm_entry", () => ({
  mm_start_code: required.uint64(1, { hex: true }),
  mm_end_code: required.uint64(2, { hex: true }),
  mm_start_data: required.uint64(3, { hex: true }),
  mm_end_data: required.uint64(4, { hex: true }),
  mm_start_stack: required.uint64(5, { hex: true }),
  mm_start_brk: required.uint64(6, { hex: true }),
  mm_brk: required.uint64(7, { hex: true }),
  mm_arg_start: required.uint64(8, { hex: true }),
  mm_arg_end: required.uint64(9, { hex: true }),
  mm_env_start: required.uint64(10, { hex: true }),
  mm_env_end: required.uint64(11, { hex: true }),
  exe_file_id: required.uint32(12),
  mm_saved_auxv: repeated.uint64(13),
  vmas: repeated.message(14, () => vmaEntry),
  dumpable: optional.int32(15),
  aios: repeated.message(16, () => aioRingEntry),
  thp_disabled: optional.bool(17),
  /** Ranges that fault whatever the protection says, madvise(MADV_GUARD_INSTALL). */
  guards: repeated.message(1000, () => floeGuardEntry, { floe: true }),
  /** MCL_FUTURE and MCL_ONFAULT: what mlockall(2) said of mappings to come. */
  lock_future: optional.uint32(1001, { floe: true }),
  /** Which huge pages stay on all the same: flags of PR_SET_THP_DISABLE. */
  thp_disabled_but: optional.uint32(1003, { floe: true }),
  /** What mbind(2) said of mappings or parts of them. */
  policies: repeated.message(1002, () => floePolicyEntry, { floe: true }),
}));
export type MmEntry = Infer<typeof mmEntry>;
