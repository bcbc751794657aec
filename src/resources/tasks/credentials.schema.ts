/**
 * Image messages: creds_entry.
 */
import { type Infer, message, optional, repeated, required } from "../../images/codec/schema.js";

export const credsEntry = message("creds_entry", () => ({
  uid: required.uint32(1),
  gid: required.uint32(2),
  euid: required.uint32(3),
  egid: required.uint32(4),
  suid: required.uint32(5),
  sgid: required.uint32(6),
  fsuid: required.uint32(7),
  fsgid: required.uint32(8),
  cap_inh: repeated.uint32(9),
  cap_prm: repeated.uint32(10),
  cap_eff: repeated.uint32(11),
  cap_bnd: repeated.uint32(12),
  secbits: required.uint32(13),
  groups: repeated.uint32(14),
  lsm_profile: optional.string(15),
  lsm_sockcreate: optional.string(16),
  apparmor_data: optional.bytes(17),
  no_new_privs: optional.uint32(18),
  cap_amb: repeated.uint32(19),
}));
export type CredsEntry = Infer<typeof credsEntry>;
