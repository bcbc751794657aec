/**
 * --address, --port, --ps-socket and the options of TLS, as the engine takes them.
 */
import type { PeerAddress, TlsOptions } from "../../engine/page-server/options.js";
import type { Settings } from "./spec.js";

/** Where CRIU looks for what is not named. */
const DEFAULTS = {
  cacert: "/etc/pki/CA/cacert.pem",
  cert: "/etc/pki/criu/cert.pem",
  key: "/etc/pki/criu/private/key.pem",
} as const;

export function resolvePeer(settings: Settings): PeerAddress {
  return {
    address: settings.address,
    port: settings.port,
    socket: settings.psSocket,
    tls: settings.tls ? tlsOptions(settings) : undefined,
  };
}

function tlsOptions(settings: Settings): TlsOptions {
  return {
    cacert: settings.tlsCacert ?? DEFAULTS.cacert,
    cacrl: settings.tlsCacrl,
    cert: settings.tlsCert ?? DEFAULTS.cert,
    key: settings.tlsKey ?? DEFAULTS.key,
    checksName: !settings.tlsNoCnVerify,
  };
}
