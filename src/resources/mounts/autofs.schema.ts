/**
 * Image messages: autofs_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const autofsEntry = message("autofs_entry", () => ({
  fd: required.int32(1),
  pgrp: required.int32(2),
  timeout: required.int32(3),
  minproto: required.int32(4),
  maxproto: required.int32(5),
  mode: required.int32(6),
  uid: optional.int32(7),
  gid: optional.int32(8),
  read_fd: optional.int32(9),
}));
export type AutofsEntry = Infer<typeof autofsEntry>;
