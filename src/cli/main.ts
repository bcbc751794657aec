/**
 * The one program: `floe`, `criu` and `crit`, by the name it is called by, or by the first word (`floe criu dump …`).
 *
 * Commands are imported when they are asked for: `--version` and `--help` load nothing that talks to the kernel.
 */
import { calledAs, chooseFront, wordsGiven } from "./front.js";
import { reportError } from "./report.js";

const [front, words] = chooseFront(calledAs(), wordsGiven());
try {
  process.exitCode = await front(words);
} catch (error) {
  reportError(error);
  process.exitCode = 1;
}
