/**
 * Image messages: bpfmap_data_entry.
 */
import { type Infer, message, required } from "../../images/codec/schema.js";

export const bpfmapDataEntry = message("bpfmap_data_entry", () => ({
  map_id: required.uint32(1),
  keys_bytes: required.uint32(2),
  values_bytes: required.uint32(3),
  count: required.uint32(4),
}));
export type BpfmapDataEntry = Infer<typeof bpfmapDataEntry>;
