/**
 * Fault injection for tests: `FLOE_FAULT=POINT` makes the engine fail at a step, `FLOE_FAULT=kill:POINT` makes it die there.
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
