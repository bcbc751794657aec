/**
 * Image messages: pipe_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";
import { fownEntry } from "../files/owner.schema.js";

export const pipeEntry = message("pipe_entry", () => ({
  id: required.uint32(1),
  pipe_id: required.uint32(2),
  flags: required.uint32(3, { hex: true }),
  fown: required.message(4, () => fownEntry),
}));
export type PipeEntry = Infer<typeof pipeEntry>;
