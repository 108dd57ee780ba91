// A bundle in a folder, for Node.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { BundleError } from "../errors.js";

/** @typedef {import("./bundle.js").Source} Source */

/** @implements {Source} */
export class DirectorySource {
  /** @param {string} directory */
  constructor(directory) {
    this.address = directory;
  }

  async manifest() {
    return await this.read("manifest.json");
  }

  /** @param {string} name a plain name, as the manifest has only those */
  async file(name) {
    return await this.read(name);
  }

  /**
   * @param {string} name
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async read(name) {
    const path = join(this.address, name);
    try {
      const { buffer, byteOffset, length } = await readFile(path);
      return new Uint8Array(/** @type {ArrayBuffer} */ (buffer), byteOffset, length).slice();
    } catch (error) {
      const { code } = /** @type {NodeJS.ErrnoException} */ (error);
      throw new BundleError(`cannot open ${path} (${code}); give the directory of a bundle, or restore it`);
    }
  }
}
