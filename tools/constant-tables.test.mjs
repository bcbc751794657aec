import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { inlineTables } from "./constant-tables.mjs";

const changed = (modules) => inlineTables(new Map(Object.entries(modules)));

describe("tables of constants", () => {
  it("become enumerations where only their members are used", () => {
    const made = changed({
      "a.ts": "export const SYS = {\n  read: 0, // a word: two\n  write: 1 << 4,\n} as const;\n",
      "b.ts": 'import { SYS } from "./a.js";\ntype Call = typeof SYS.read | keyof typeof SYS;\n// SYS\ncall(SYS.read, SYS.write);\n',
    });
    assert.equal(made.get("a.ts"), "export enum SYS {\n  read = 0, // a word: two\n  write = 1 << 4,\n}\n");
    assert.deepEqual([...made.keys()], ["a.ts"]);
  });

  it("stay what they are where somebody uses all of one, also in another module", () => {
    const table = 'export const FIELDS = { a: 1, b: "two" } as const;\n';
    for (const use of ["f(FIELDS)", "FIELDS[name]", "Object.values(FIELDS)", "const { a } = FIELDS", "export { FIELDS }"]) {
      assert.equal(changed({ "a.ts": table, "b.ts": `import { FIELDS } from "./a.js";\n${use};\n` }).size, 0, use);
      assert.equal(changed({ "a.ts": `${table}${use};\n` }).size, 0, use);
    }
    assert.equal(changed({ "a.ts": table, "b.ts": 'import { FIELDS as OTHER } from "./a.js";\nf(OTHER);\n' }).size, 0);
    assert.equal(changed({ "a.ts": table, "b.ts": 'import { FIELDS } from "./a.js";\nObject.entries(FIELDS);\n' }).size, 0);
  });

  it("are written where their own module asks for all entries", () => {
    const made = changed({
      "a.ts": "export const E = { ONE: 1 } as const;\nconst name = (n) => Object.entries(E).find(([, v]) => v === n);\n",
    });
    assert.equal(
      made.get("a.ts"),
      "export enum E { ONE = 1 }\nconst name = (n) => Object.entries<number>({ ONE: 1 }).find(([, v]) => v === n);\n",
    );
  });

  it("of anything but constants stay what they are", () => {
    for (const value of ["f()", "[1]", "1n", "other.X", "`text`"]) {
      assert.equal(changed({ "a.ts": `const T = { a: ${value} } as const;\nf(T.a);\n` }).size, 0, value);
    }
  });
});
