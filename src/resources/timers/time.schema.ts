/**
 * Image messages: timeval.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const timeval = message("timeval", () => ({
  tv_sec: required.uint64(1),
  tv_usec: required.uint64(2),
}));
export type Timeval = Infer<typeof timeval>;
