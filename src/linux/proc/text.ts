/**
 * The error of text from /proc that is not what it should be: the process died while it was read, or the kernel is odd.
 */
import { KernelError } from "../../errors.js";
import { errnoText } from "../errno.js";

const ESRCH = 3;

/** The typed error for text of `path` that is cut off or malformed. */
export function procTextError(path: string, because: string): KernelError {
  return new KernelError({ call: `read("${path}")`, errno: ESRCH, errnoText: `${because}; ${errnoText(ESRCH)}` });
}
