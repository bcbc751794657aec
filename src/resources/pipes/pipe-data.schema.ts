/**
 * Image messages: pipe_data_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const pipeDataEntry = message("pipe_data_entry", {
  pipe_id: required.uint32(1),
  bytes: required.uint32(2),
  size: optional.uint32(3),
});
export type PipeDataEntry = Infer<typeof pipeDataEntry>;
