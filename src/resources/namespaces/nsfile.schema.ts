/**
 * Image messages: ns_file_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const nsFileEntry = message("ns_file_entry", () => ({
  id: required.uint32(1),
  ns_id: required.uint32(2),
  ns_cflag: required.uint32(3),
  flags: required.uint32(4),
}));
export type NsFileEntry = Infer<typeof nsFileEntry>;
