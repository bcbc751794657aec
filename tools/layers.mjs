/**
 * Checks what ARCHITECTURE.md promises of the sources: no layer imports a higher one, only src/linux/ffi touches the FFI
 * library, nothing comes from outside but node: built-ins, of which slow ones are not loaded by every command, and no file is too long.
 *
 *   node tools/layers.mjs [ROOT]
 */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** What each layer may import beside itself and the files of `src/` that have no layer. */
const below = {
  linux: [],
  images: ["linux"],
  target: ["linux"],
  resources: ["target", "images", "linux"],
  engine: ["resources", "target", "images", "linux"],
  rpc: ["engine", "resources", "target", "images", "linux"],
  cli: ["rpc", "engine", "resources", "target", "images", "linux"],
};
/** Files directly in src/ that every layer may import: they know nothing of any layer. */
const shared = ["errors", "version"];
/** The library's entry: sees everything, and only tests and the outside see it. */
const entry = "index";
const longestFile = 600;
/** Layers that see Linux through the typed calls only; target and engine may also make raw ones. */
const withoutRawCalls = ["images", "resources", "rpc", "cli"];

/** Built-ins that take longer to load than most of a small dump (docs/decisions/0025), and the sources that a dump does not load. */
const slow = ["node:crypto", "node:net", "node:tls", "node:tty"];
const loadedOnDemand = ["src/engine/page-server/tls-relay.ts"];

/** Specifiers of `import … from`, `export … from`, `import "…"` and `import("…")`, with their line. */
const importPattern = /(?:^|[;}\s])(?:import|export)\s(?:[^"';()]*?\sfrom\s)?\s*"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/g;

function importsOf(text) {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " ")).replace(/^\s*\/\/.*$/gm, "");
  return [...code.matchAll(importPattern)].map((match) => ({
    specifier: match[1] ?? match[2],
    isType: /^\W*(?:import|export)\s+type\b/.test(match[0]),
    line: code.slice(0, match.index + match[0].indexOf(match[1] ?? match[2])).split("\n").length,
  }));
}

/** `linux` for src/linux/x.ts, `(errors)` for src/errors.ts, `test` for what is in test/. */
function layerOf(path) {
  const [top, second, third] = path.split("/");
  if (top !== "src") return top;
  return third === undefined ? `(${second.replace(/\.[jt]s$/, "")})` : second;
}

function checkPackage(path, { specifier, isType }) {
  if (slow.includes(specifier) && !isType && path.startsWith("src/") && !path.endsWith(".test.ts") && !loadedOnDemand.includes(path))
    return `imports "${specifier}", which takes milliseconds to load: take it when it is needed (process.getBuiltinModule)`;
  if (specifier.startsWith("node:")) return undefined;
  if (specifier === "koffi") return path.startsWith("src/linux/ffi/") ? undefined : "only src/linux/ffi may import koffi";
  return `imports the package "${specifier}": only node: built-ins are allowed`;
}

function checkFfi(path, to) {
  if (!to.startsWith("src/linux/ffi/") || !withoutRawCalls.includes(layerOf(path))) return undefined;
  return `imports ${to}: ${layerOf(path)} uses the typed calls of src/linux`;
}

function checkLayers(path, to) {
  const from = layerOf(path);
  const target = layerOf(to);
  const isTest = path.endsWith(".test.ts");
  if (from === "test" || from === "tools" || from === target || shared.includes(target.slice(1, -1))) return undefined;
  if (target === "test") {
    return isTest && to.startsWith("test/harness/") ? undefined : `imports ${to}: sources do not import tests`;
  }
  if (from === `(${entry})`) return undefined;
  if (from.startsWith("(")) return `imports ${to}: src/*.ts beside ${entry}.ts know no layer`;
  if (below[from] === undefined) return `${from} is no layer`;
  return below[from].includes(target) ? undefined : `${from} may not import ${target} (${to})`;
}

function checkImport(path, imported) {
  const { specifier } = imported;
  if (!specifier.startsWith(".")) return checkPackage(path, imported);
  const to = normalize(join(dirname(path), specifier));
  if (!/\.(js|json)$/.test(to)) return `"${specifier}" must end in .js`;
  return checkFfi(path, to) ?? checkLayers(path, to);
}

function checkSchema(path, text) {
  if (!path.endsWith(".schema.ts")) return [];
  const outside = importsOf(text).find(({ specifier }) => !/\.schema\.js$|\/codec\/schema\.js$/.test(specifier));
  return outside === undefined ? [] : [`${path}:${outside.line}: a schema imports schemas only, not "${outside.specifier}"`];
}

/** Problems of one file, as lines of text. */
export function checkFile(path, text) {
  const problems = checkSchema(path, text);
  for (const imported of importsOf(text)) {
    const problem = checkImport(path, imported);
    if (problem !== undefined) problems.push(`${path}:${imported.line}: ${problem}`);
  }
  const lines = text.split("\n").length - 1;
  if (lines > longestFile) problems.push(`${path}: ${lines} lines; at most ${longestFile}`);
  return problems;
}

export function checkTree(root) {
  const problems = [];
  let files = 0;
  for (const folder of ["src", "test", "tools"]) {
    for (const name of readdirSync(join(root, folder), { recursive: true })) {
      if (!/\.(ts|mjs|c|h|S)$/.test(name)) continue;
      const path = `${folder}/${name}`;
      const text = readFileSync(join(root, path), "utf8");
      files += 1;
      // Tools run before anything else and may use what package.json brings; the length holds for all.
      problems.push(...(name.endsWith(".ts") ? checkFile(path, text) : checkFile(path, text.replace(/\bimport\b/g, ""))));
    }
  }
  return { files, problems };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const root = process.argv[2] ?? relative("", join(dirname(fileURLToPath(import.meta.url)), ".."));
  const { files, problems } = checkTree(root === "" ? "." : root);
  for (const problem of problems) process.stderr.write(`  ${problem}\n`);
  process.stdout.write(`  ${files} files, ${problems.length} problems\n`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
