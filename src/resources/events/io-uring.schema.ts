/**
 * Image messages: floe_io_uring_entry and its parts. CRIU has no such kind of file.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const floeRingMapping = message("floe_ring_mapping", () => ({
  pid: required.uint32(1),
  start: required.uint64(2, { hex: true }),
  bytes: required.uint64(3),
  /** IORING_OFF_…, plus where in that part it begins. */
  offset: required.uint64(4, { hex: true }),
  prot: required.uint32(5),
  dont_fork: optional.bool(6),
}));
export type FloeRingMapping = Infer<typeof floeRingMapping>;

export const floeRingFile = message("floe_ring_file", () => ({
  slot: required.uint32(1),
  /** A descriptor of process `pid` of the ring. */
  fd: required.uint32(2),
}));

export const floeRingBuffer = message("floe_ring_buffer", () => ({
  slot: required.uint32(1),
  start: required.uint64(2, { hex: true }),
  bytes: required.uint64(3),
}));

/** A thread that has registered the ring's descriptor, and under which number. */
export const floeRingUser = message("floe_ring_user", () => ({
  pid: required.uint32(1),
  tid: required.uint32(2),
  index: required.uint32(3),
}));

export const floeIoUringEntry = message("floe_io_uring_entry", () => ({
  id: required.uint32(1),
  flags: required.uint32(2, { hex: true }),
  fown: required.message(3, () => fownEntry),
  /** A process that has it, in whose name files and buffers are registered. */
  pid: required.uint32(4),
  sq_entries: required.uint32(5),
  cq_entries: required.uint32(6),
  /** IORING_SETUP_…, as far as they can be told. */
  setup_flags: required.uint32(7, { hex: true }),
  /** Where things lie in `ring`: heads and tails of requests and completions, completions, the array of requests. */
  layout: repeated.uint32(8),
  /** Counters, completions and the array of requests. */
  ring: required.bytes(9),
  requests: required.bytes(10),
  mappings: repeated.message(11, () => floeRingMapping),
  file_slots: required.uint32(12),
  files: repeated.message(13, () => floeRingFile),
  buffer_slots: required.uint32(14),
  buffers: repeated.message(15, () => floeRingBuffer),
  users: repeated.message(16, () => floeRingUser),
}));
export type FloeIoUringEntry = Infer<typeof floeIoUringEntry>;
