/**
 * Tables of constants become their numbers when a bundle is made: `SYS.read` is 0 there, and the table is not made at all.
 *
 * Each name in such a table takes the engine a microsecond at every start, and looking it up takes time where it is used first, which
 * may be in a freeze. In TypeScript an enumeration would do; so each table of which nothing is used but its members is turned into one
 * for esbuild, which puts the values in their places. `Object.entries(TABLE)` in the table's own module is used to tell of errors, and gets
 * the table itself. A table that is used in any other way stays what it is.
 */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** `export const NAME = { … } as const;` and no braces inside. */
const DECLARATION = /^(export )?const ([A-Z][A-Z0-9_]*) = (\{[^{}]*\}) as const;$/gm;
const NUMBER = "(?:0x[\\da-fA-F_]+|0o[0-7_]+|\\d[\\d_]*)";
/** A name with an integer, bits of some, or a short text. */
const ENTRY = new RegExp(`^[A-Za-z_]\\w*: (?:-?${NUMBER}(?: (?:<<|\\|) ${NUMBER})*|"[^"\\\\]*")$`);

function withoutComments(text) {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(?<![:"'`\w])\/\/.*$/gm, "");
}

function hasConstantsOnly(body) {
  const entries = withoutComments(body.slice(1, -1)).split(",");
  const written = entries.map((one) => one.trim()).filter((one) => one !== "");
  return written.length > 0 && written.every((one) => ENTRY.test(one));
}

/** Whether `text` uses the table for anything but its members, its types aside. */
function isUsedWhole(text, name) {
  const uses = withoutComments(text)
    .replace(/^import [^;]*;/gm, (line) => (new RegExp(`\\b${name} as\\b`).test(line) ? name : ""))
    .replace(new RegExp(`^(export )?const ${name} = `, "m"), "");
  return new RegExp(`(?<!typeof |[.\\w$"])${name}(?![\\w$"]|\\.[A-Za-z_])`).test(uses);
}

const wholeOf = (name) => `Object.entries(${name})`;

/** The texts of `modules`, by path, with their tables turned into enumerations. What has none is left out. */
export function inlineTables(modules) {
  const changed = new Map();
  for (const [path, text] of modules) {
    const made = text.replace(DECLARATION, (whole, exported, name, body) => {
      if (!hasConstantsOnly(body)) return whole;
      const isShared = exported !== undefined;
      const users = isShared ? [...modules].filter(([, other]) => other.includes(name)) : [[path, text]];
      const isWhole = users.some(([user, other]) => isUsedWhole(user === path ? other.replaceAll(wholeOf(name), "") : other, name));
      return isWhole
        ? whole
        : `${exported ?? ""}enum ${name} ${body.replace(/^( *[A-Za-z_]\w*): /gm, "$1 = ").replace(/([{,] *[A-Za-z_]\w*): /g, "$1 = ")}`;
    });
    if (made === text) continue;
    changed.set(path, withTables(made, text));
  }
  return changed;
}

/** The table itself where the module asks for all of it. */
function withTables(made, text) {
  let result = made;
  for (const [, , name, body] of text.matchAll(DECLARATION)) {
    if (new RegExp(`^(export )?enum ${name} `, "m").test(made))
      result = result.replaceAll(wholeOf(name), `Object.entries<number>(${body})`);
  }
  return result;
}

/** For esbuild: the modules below `folder`, an absolute path, with their tables as numbers. */
export function constantTables(folder) {
  const names = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
  const changed = inlineTables(new Map(names.map((name) => [join(folder, name), readFileSync(join(folder, name), "utf8")])));
  return {
    name: "constant-tables",
    setup(build) {
      build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const contents = changed.get(path);
        return contents === undefined ? undefined : { contents, loader: "ts" };
      });
    },
  };
}
