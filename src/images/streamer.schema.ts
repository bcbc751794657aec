/**
 * Image messages: img_streamer_request_entry, img_streamer_reply_entry.
 */
import { type Infer, message, required } from "./codec/schema.js";

export const imgStreamerRequestEntry = message("img_streamer_request_entry", () => ({
  filename: required.string(1),
}));
export type ImgStreamerRequestEntry = Infer<typeof imgStreamerRequestEntry>;

export const imgStreamerReplyEntry = message("img_streamer_reply_entry", () => ({
  exists: required.bool(1),
}));
export type ImgStreamerReplyEntry = Infer<typeof imgStreamerReplyEntry>;
