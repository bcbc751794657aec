/**
 * Where the images of a dump go: into the directory, or, their pages, to a page server.
 */
import { resolve } from "node:path";
import { DirectorySink } from "../../images/sink.js";
import type { StoreOptions } from "../../images/store/write.js";
import type { DirectorySource } from "../../images/source.js";
import { openPrevious } from "../previous.js";
import { StreamSink } from "../stream/folder.js";
import type { StreamChoice } from "../stream/folder.js";
import { connectTo } from "./connect.js";
import type { PeerAddress } from "./options.js";
import { SendingSink } from "./send.js";

export interface SinkChoice {
  readonly imagesDir: string;
  readonly tree: number;
  readonly prevImagesDir?: string | undefined;
  readonly pageServer?: PeerAddress | undefined;
  readonly pages?: StoreOptions | undefined;
  readonly stream?: StreamChoice | undefined;
  readonly lazySource?: unknown;
  /** Missing: it is a pre-dump, which always does. */
  readonly leaveRunning?: boolean;
}

/** The sink of a dump. A page server is connected to before anything is touched. */
export function sinkFor({ imagesDir, tree, prevImagesDir, pageServer, pages, stream, leaveRunning = true }: SinkChoice): DirectorySink {
  if (stream !== undefined) return StreamSink.open(stream, imagesDir, { pages });
  if (pageServer === undefined) return new DirectorySink(imagesDir, { supersedes: true, pages });
  const to = connectTo(pageServer, { kind: "PAGEMAP", id: BigInt(tree) });
  try {
    return new SendingSink(imagesDir, {
      supersedes: true,
      to,
      hasNext: leaveRunning,
      previous: prevImagesDir && resolve(imagesDir, prevImagesDir),
    });
  } catch (error) {
    to.close();
    throw error;
  }
}

/**
 * The images of the dump before, to be compared with. Where pages go to a server, those of the dump before are there too, and
 * cannot be: what is left out there, the sender finds out (`digests.ts`). What stays with the processes is not compared either.
 */
export function parentFor(choice: SinkChoice, sink: DirectorySink): DirectorySource | undefined {
  const parent = openPrevious(choice, sink);
  if (choice.pageServer === undefined && choice.lazySource === undefined) return parent;
  parent?.close();
  return undefined;
}
