/**
 * Image messages: siginfo_entry, signal_queue_entry.
 */
import { type Infer, message, repeated, required } from "../../images/codec/schema.js";

export const siginfoEntry = message("siginfo_entry", () => ({
  siginfo: required.bytes(1),
}));
export type SiginfoEntry = Infer<typeof siginfoEntry>;

export const signalQueueEntry = message("signal_queue_entry", () => ({
  signals: repeated.message(1, () => siginfoEntry),
}));
export type SignalQueueEntry = Infer<typeof signalQueueEntry>;
