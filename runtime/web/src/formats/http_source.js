// A bundle on a web server; its files are kept in the browser under their SHA-256.

import { BundleError } from "../errors.js";
import { sha256 } from "./bundle.js";

/** @typedef {import("./bundle.js").Source} Source */
/** @typedef {import("./manifest.js").BundleFile} BundleFile */

const CACHE = "hyperstyle-rt files";

/** @implements {Source} */
export class HttpSource {
  /** @param {string | URL} address of the bundle's folder, without a slash at its end */
  constructor(address) {
    this.address = String(address);
  }

  async manifest() {
    return await download(`${this.address}/manifest.json`, "no-cache", () => {});
  }

  /**
   * @param {string} name
   * @param {BundleFile} listed
   * @param {(bytes: number) => void} tell
   */
  async file(name, listed, tell) {
    return await cached(`${this.address}/${name}`, listed.sha256, tell);
  }
}

/**
 * A file that the browser has kept, or that is downloaded and kept.
 *
 * @param {string} address
 * @param {string} digest SHA-256 that it should have; what was kept and has another is fetched anew
 * @param {(bytes: number) => void} tell gets the bytes that have come so far
 * @returns {Promise<Uint8Array<ArrayBuffer>>} not verified
 * @throws {BundleError} if it cannot be fetched
 */
export async function cached(address, digest, tell) {
  const cache = await openCache();
  const key = new URL(`/sha256-${digest}`, address).href;
  const kept = await cache?.match(key).catch(() => undefined);
  if (kept !== undefined) {
    const data = new Uint8Array(await kept.arrayBuffer());
    if ((await sha256(data)) === digest) return data;
    await cache?.delete(key);
  }
  const data = await download(address, "default", tell);
  if ((await sha256(data)) === digest) {
    // Without room it is fetched again the next time.
    await cache?.put(key, new Response(data)).catch(() => {});
  }
  return data;
}

/** Cache Storage; undefined where the browser or the user does not allow it. */
async function openCache() {
  try {
    return await globalThis.caches?.open(CACHE);
  } catch {
    return undefined;
  }
}

/**
 * @param {string} address
 * @param {RequestCache} cache
 * @param {(bytes: number) => void} tell
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function download(address, cache, tell) {
  let answer;
  try {
    answer = await fetch(address, { cache });
  } catch {
    throw new BundleError(`${address} cannot be reached; look at the connection, and try it again`);
  }
  if (!answer.ok || answer.body === null) {
    throw new BundleError(
      `${address} cannot be fetched (${answer.status}); write the static page again with hyperstyle-rt ` +
        "serve --static",
    );
  }
  const parts = [];
  let size = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    tell(size);
  }
  const data = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return data;
}
