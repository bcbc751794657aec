/**
 * Image message: floe_page_index. Floe's own: pages of a pages image that is kept in the page store (images/store/).
 */
import { type Infer, message, required } from "./codec/schema.js";

/** The next `nr_pages` pages are those of the store from `first_page` on. */
export const floePageIndex = message("floe_page_index", () => ({
  first_page: required.uint64(1),
  nr_pages: required.uint64(2),
}));
export type FloePageIndex = Infer<typeof floePageIndex>;
