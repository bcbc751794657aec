/**
 * The images of the dump before (--prev-images-dir), which new ones are to be the difference to.
 */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { UsageError } from "../errors.js";
import type { DirectorySink } from "../images/sink.js";
import { DirectorySource } from "../images/source.js";

/** Opens them and links them to the new ones; undefined when none are asked for. */
export function openPrevious(
  { imagesDir, prevImagesDir }: { readonly imagesDir: string; readonly prevImagesDir?: string | undefined },
  sink: DirectorySink,
): DirectorySource | undefined {
  if (prevImagesDir === undefined) return undefined;
  const path = resolve(imagesDir, prevImagesDir);
  const found = statSync(path, { throwIfNoEntry: false });
  const own = statSync(imagesDir);
  const because =
    found === undefined
      ? "there is no such directory"
      : !found.isDirectory()
        ? "it is not a directory"
        : found.dev === own.dev && found.ino === own.ino
          ? "it is the directory of the new images"
          : undefined;
  if (because !== undefined) {
    throw new UsageError({
      code: "PREV_IMAGES_UNUSABLE",
      message: `Cannot use "${prevImagesDir}" for --prev-images-dir: ${because}`,
      remedy: [`Name the directory of the dump before, relative to the images directory (that is ${path} now)`],
    });
  }
  const source = new DirectorySource(path);
  sink.linkParent(prevImagesDir);
  return source;
}
