/**
 * A page server: waits for one connection, and receives pages or serves them.
 */
import type { StoreOptions } from "../../images/store/write.js";
import type { Logger } from "../log.js";
import type { Listening } from "./address.js";
import { takeConnection } from "./connect.js";
import type { PageConnection } from "./connection.js";
import type { PeerAddress } from "./options.js";
import { ImageStore, givePages } from "./give.js";
import { receivePages } from "./receive.js";

export interface PageServerOptions {
  readonly imagesDir: string;
  readonly prevImagesDir: string | undefined;
  readonly autoDedup: boolean;
  /** What becomes of pages that are received. */
  readonly pages?: StoreOptions | undefined;
  /** Serve the pages of the images instead of receiving. */
  readonly lazyPages: boolean;
  readonly peer: PeerAddress;
}

/** Serves the connection that comes to `from`, and ends. */
export function servePages(from: Listening | number, options: PageServerOptions, log: Logger): void {
  const connection = takeConnection(from, options.peer);
  log.info("connected");
  try {
    if (options.lazyPages) serveImages(connection, options.imagesDir, log);
    else receivePages(connection, options, log);
  } finally {
    connection.close();
  }
}

function serveImages(connection: PageConnection, imagesDir: string, log: Logger): void {
  const store = new ImageStore(imagesDir);
  try {
    const { isClosed } = givePages(connection, store, { log });
    if (!isClosed) throw connection.lost("it ended before it said that it has all pages");
  } finally {
    store.close();
  }
}
