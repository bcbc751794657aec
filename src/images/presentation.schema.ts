/**
 * Image messages: CRIU_Opts.
 */
import { type Infer, message, optional } from "./codec/schema.js";

export const criuOpts = message("CRIU_Opts", () => ({
  hex: optional.bool(1),
  ipadd: optional.bool(2),
  flags: optional.string(3),
  dev: optional.bool(4),
  odev: optional.bool(5),
  dict: optional.string(6),
  conv: optional.string(7),
}));
export type CriuOpts = Infer<typeof criuOpts>;
