/**
 * Image messages: aa_policy, aa_namespace, apparmor_entry.
 */
import { type Infer, type MessageType, message, repeated, required } from "../../images/codec/schema.js";

export const aaPolicy = message("aa_policy", () => ({
  name: required.string(1),
  blob: required.bytes(2),
}));
export type AaPolicy = Infer<typeof aaPolicy>;

/** Values of aaNamespace; spelled out because the message contains itself. */
export interface AaNamespace {
  name: string;
  policies: AaPolicy[];
  namespaces: AaNamespace[];
}

export const aaNamespace: MessageType<AaNamespace> = message("aa_namespace", () => ({
  name: required.string(1),
  policies: repeated.message(2, () => aaPolicy),
  namespaces: repeated.message(3, (): MessageType<AaNamespace> => aaNamespace),
}));

export const apparmorEntry = message("apparmor_entry", () => ({
  namespaces: repeated.message(1, () => aaNamespace),
}));
export type ApparmorEntry = Infer<typeof apparmorEntry>;
