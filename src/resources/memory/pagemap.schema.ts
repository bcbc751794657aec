/**
 * Image messages: pagemap_head, pagemap_entry.
 */
import { type Infer, message, optional, required } from "../../images/codec/schema.js";

export const pagemapHead = message("pagemap_head", () => ({
  pages_id: required.uint32(1),
}));
export type PagemapHead = Infer<typeof pagemapHead>;

export const pagemapEntry = message("pagemap_entry", () => ({
  vaddr: required.uint64(1, { hex: true }),
  compat_nr_pages: required.uint32(2, { formerly: "nr_pages" }),
  in_parent: optional.bool(3),
  flags: optional.uint32(4, { flags: "pmap.flags" }),
  nr_pages: optional.uint64(5),
}));
export type PagemapEntry = Infer<typeof pagemapEntry>;
