/** The bundles: esbuild for Node, then bun's compiler for the executable (docs/decisions/0003-build-and-executable.md). */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";

import { build } from "esbuild";

import { constantTables } from "./constant-tables.mjs";
import { ENGINE_OPTIONS, addEngineOptions } from "./engine-options.mjs";
import { packageCommand } from "./setup.mjs";

/** A floe that started from the former build may still import its chunks: they stay for this long. */
const staleChunkMs = 10 * 60_000;
const chunkFolder = "dist/chunks";

const { version } = JSON.parse(readFileSync("package.json", "utf8"));

function common(entryPoints) {
  return {
    entryPoints,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    chunkNames: "chunks/[name]-[hash]",
    define: { "process.env.FLOE_VERSION": JSON.stringify(version) },
    plugins: [constantTables(resolve("src"))],
    legalComments: "none",
    logLevel: "warning",
    write: false,
  };
}

/** Puts a file in place at once, so that whoever starts floe now reads the former or the new one, never half of one. */
function replaceFile(path, contents, mode) {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, contents, { mode });
  chmodSync(temporary, mode);
  renameSync(temporary, path);
}

function removeStaleChunks(current) {
  if (!existsSync(chunkFolder)) return;
  for (const name of readdirSync(chunkFolder)) {
    const path = join(chunkFolder, name);
    if (!current.has(path) && Date.now() - statSync(path).mtimeMs > staleChunkMs) rmSync(path);
  }
}

/** dist/floe.js and dist/index.js, with what they share and what they import lazily in dist/chunks/. */
export async function buildBundle({ entry, library }) {
  const entryPoints = [{ in: entry, out: "floe" }];
  if (library !== undefined) entryPoints.push({ in: library, out: "index" });
  const result = await build({ ...common(entryPoints), outdir: "dist", external: ["koffi"] });
  const files = result.outputFiles.map((file) => ({ path: relative("", file.path), text: file.text }));
  // Entries last: they name the chunks.
  files.sort((a, b) => Number(b.path.startsWith(chunkFolder)) - Number(a.path.startsWith(chunkFolder)));
  for (const { path, text } of files) {
    const isCommand = path === "dist/floe.js";
    const shebang = isCommand && !text.startsWith("#!") ? "#!/usr/bin/env node\n" : "";
    replaceFile(path, shebang + text, isCommand ? 0o755 : 0o644);
  }
  removeStaleChunks(new Set(files.map((file) => file.path)));
}

/** Type declarations of the library: dist/types/**, with dist/index.d.ts pointing at the entry's. */
export function buildTypes(library) {
  rmSync("dist/types", { recursive: true, force: true });
  const args = ["--ignoreConfig", "--declaration", "--emitDeclarationOnly", "--outDir", "dist/types", "--rootDir", "src"];
  args.push("--module", "nodenext", "--target", "es2022", "--lib", "es2023,esnext.disposable", "--types", "node");
  args.push("--strict", "--exactOptionalPropertyTypes", "--skipLibCheck", "--stripInternal", library);
  const result = spawnSync(packageCommand("tsc"), args, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`no type declarations:\n${result.stdout}${result.stderr}`);
  const name = basename(library, ".ts");
  writeFileSync("dist/index.d.ts", `export * from "./types/${name}.js";\n`);
}

/** The bun that makes the executable. */
export function findBun() {
  const places = [`node_modules/@oven/bun-linux-${process.arch === "arm64" ? "aarch64" : "x64"}/bin/bun`, "node_modules/bun/bin/bun.exe"];
  // Until its install script has run (npm may forbid that), the package holds a short text in place of the program.
  const found = places.find((path) => existsSync(path) && statSync(path).size > 1_000_000);
  if (found === undefined) throw new Error(`bun is in none of ${places.join(", ")}: run npm install on a machine that bun supports`);
  return resolve(found);
}

/** koffi is a file of its own, and the executable has none: it has Bun's FFI in its place. */
const embedFfi = {
  name: "embed-ffi",
  setup(build) {
    build.onResolve({ filter: /^koffi$/ }, () => ({ path: resolve("tools/embedded-ffi.mjs") }));
    build.onResolve({ filter: /^bun:ffi$/ }, (args) => ({ path: args.path, external: true }));
  },
};

/** dist/floe: bundle and bun in one file. */
export async function buildExecutable(entry) {
  const work = "build/exe";
  rmSync(work, { recursive: true, force: true });
  const result = await build({
    ...common([{ in: entry, out: "floe" }]),
    outdir: work,
    minify: true,
    plugins: [embedFfi, constantTables(resolve("src"))],
    // What is put into the environment for the engine is nobody else's business.
    banner: { js: ENGINE_OPTIONS.map((text) => `delete process.env.${text.split("=")[0]};`).join("") },
  });
  for (const file of result.outputFiles) replaceFile(relative("", file.path), file.text, 0o644);
  // What is imported lazily stays apart: a command takes only what it needs out of the bytecode.
  const args = [
    "build",
    "--compile",
    "--minify",
    "--bytecode",
    "--splitting",
    "--format=esm",
    "--target=bun",
    // Nothing of the folder that somebody happens to stand in: such files name code, and Floe runs as root.
    "--no-compile-autoload-bunfig",
    "--no-compile-autoload-dotenv",
    "./floe.js",
    "--outfile",
    "floe",
  ];
  const compiled = spawnSync(findBun(), args, { cwd: work, encoding: "utf8" });
  if (compiled.status !== 0) throw new Error(`bun build failed:\n${compiled.stdout}${compiled.stderr}`);
  if (process.arch === "x64") addEngineOptions(join(work, "floe"));
  mkdirSync("dist", { recursive: true });
  renameSync(join(work, "floe"), "dist/floe");
}
