/**
 * Image messages: pipe_data_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const pipeDataEntry = message("pipe_data_entry", () => ({
  pipe_id: required.uint32(1),
  bytes: required.uint32(2),
  size: optional.uint32(3),
  /** Lengths of the messages that the bytes are, of a pipe in packet mode. */
  packets: repeated.uint32(1000, { floe: true }),
}));
export type PipeDataEntry = Infer<typeof pipeDataEntry>;
