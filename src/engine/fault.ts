/**
 * Fault injection for tests: `FLOE_FAULT=POINT` makes the engine fail at a step, `FLOE_FAULT=kill:POINT` makes it die there.
 * `FLOE_FAULT=refuse:WHAT` has it take something for refused by the kernel, so that the other way is gone.
 */
import { UsageError } from "../errors.js";

const wanted = process.env["FLOE_FAULT"];

/** Fails or dies here if the test that runs us asked for it. */
export function faultPoint(point: string): void {
  if (wanted === undefined) return;
  if (wanted === point) {
    throw new UsageError({ code: "FAULT_INJECTED", message: `Failed on purpose at "${point}" (FLOE_FAULT)` });
  }
  if (wanted === `kill:${point}`) process.kill(process.pid, "SIGKILL");
}

/** Whether the test that runs us wants to see what is done where `what` is refused. */
export function isRefused(what: string): boolean {
  return wanted === `refuse:${what}`;
}
