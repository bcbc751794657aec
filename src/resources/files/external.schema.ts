/**
 * Image messages: ext_file_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";
import { fownEntry } from "./owner.schema.js";

export const extFileEntry = message("ext_file_entry", () => ({
  id: required.uint32(1),
  fown: required.message(5, () => fownEntry),
}));
export type ExtFileEntry = Infer<typeof extFileEntry>;
