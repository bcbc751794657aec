/**
 * `floe background TASK ORDER`: what Floe starts itself with, for processes that stay behind. Not for people.
 */
import { UsageError } from "../../errors.js";

export async function backgroundCommand(words: readonly string[]): Promise<number> {
  const [task, text] = words;
  const order = JSON.parse(text ?? "null");
  switch (task) {
    case "page-server":
      return (await import("./page-server.js")).pageServerInBackground(order);
    case "lazy-pages":
      return (await import("./lazy-pages.js")).lazyPagesInBackground(order);
    case "fill":
      return (await import("./lazy-pages.js")).fillInBackground(order);
    case "tls-relay":
      return (await import("../../engine/page-server/tls-relay.js")).relay(order);
    default:
      throw new UsageError({
        code: "COMMAND_UNKNOWN",
        message: `There is no task "${task ?? ""}" for the background`,
        remedy: ["See floe help for the commands there are"],
      });
  }
}
