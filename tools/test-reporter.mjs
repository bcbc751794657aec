/** A reporter for node:test: one JSON line for each test (not for suites): name with its suites, outcome, milliseconds, message. */

function messageOf(error) {
  const cause = error?.cause ?? error;
  return String(cause?.stack ?? cause?.message ?? cause ?? "no message");
}

function reasonOf(data) {
  const given = data.skip ?? data.todo;
  return typeof given === "string" && given !== "" ? given : "no reason given";
}

export default async function* report(source) {
  const names = [];
  for await (const { type, data } of source) {
    if (type === "test:start") {
      names.length = data.nesting;
      names[data.nesting] = data.name;
      continue;
    }
    if (type !== "test:pass" && type !== "test:fail") continue;
    // A suite fails when one of its tests does, which has been counted; its own hooks' failures have not.
    const isSuite = data.details?.type === "suite";
    if (isSuite && (type === "test:pass" || data.details.error?.failureType === "subtestsFailed")) {
      if (data.skip === undefined) continue;
    }
    const name = [...names.slice(0, data.nesting), data.name].join(" > ");
    const ms = Math.round(data.details?.duration_ms ?? 0);
    const skipped = data.skip !== undefined || data.todo !== undefined;
    if (skipped) yield `${JSON.stringify({ name, outcome: "skipped", reason: reasonOf(data) })}\n`;
    else if (type === "test:pass") yield `${JSON.stringify({ name, outcome: "passed", ms })}\n`;
    else yield `${JSON.stringify({ name, outcome: "failed", ms, message: messageOf(data.details?.error) })}\n`;
  }
}
