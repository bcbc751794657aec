/**
 * Image message: floe_page_digests. Floe's own: what the pages were that have gone to a page server, so that the next dump need not
 * send again those that are the same.
 */
import { type Infer, message, required } from "./codec/schema.js";

/** Pages from `vaddr` on of what `dst` stands for (as on the wire, engine/page-server/wire.ts): 16 bytes of SHA-256 for each. */
export const floePageDigests = message("floe_page_digests", () => ({
  dst: required.uint64(1),
  vaddr: required.uint64(2),
  digests: required.bytes(3),
}));
export type FloePageDigests = Infer<typeof floePageDigests>;
