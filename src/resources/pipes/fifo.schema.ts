/**
 * Image messages: fifo_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const fifoEntry = message("fifo_entry", () => ({
  id: required.uint32(1),
  pipe_id: required.uint32(2),
  regf_id: optional.uint32(3),
}));
export type FifoEntry = Infer<typeof fifoEntry>;
