// Engine bundles: manifest and files, verified before use.
//
// A graph is a program, so nothing of a file leaves this module before its size and SHA-256 have been
// compared with the manifest.

import { BackendError, BundleError } from "../errors.js";
import { Manifest } from "./manifest.js";
import { parse } from "./safetensors.js";
import { canonical, shown } from "./strict_json.js";

/** @typedef {import("./manifest.js").BundleFile} BundleFile */
/**
 * @typedef {object} Source Where the files of a bundle come from; what it gives is not trusted.
 * @property {string} address for sentences
 * @property {() => Promise<Uint8Array<ArrayBuffer>>} manifest
 * @property {(name: string, listed: BundleFile, tell: (bytes: number) => void)
 *   => Promise<Uint8Array<ArrayBuffer>>} file tell gets the bytes that have come so far
 */
/** @typedef {{model: Uint8Array, data: {path: string, data: Uint8Array}[]}} VerifiedGraph */

const MAX_MANIFEST_SIZE = 2 ** 20;
const LATENT_AVERAGE_NAME = "latent_average.safetensors";

export class Bundle {
  /**
   * @param {Source} source
   * @param {Manifest} manifest
   * @param {string} digest
   */
  constructor(source, manifest, digest) {
    this.source = source;
    this.manifest = manifest;
    /** SHA-256 of the `files` table: which build of a bundle something was made with. */
    this.digest = digest;
    /** @type {Map<string, Uint8Array<ArrayBuffer>>} */
    this.held = new Map();
  }

  /**
   * Read and check a bundle's manifest; files are read when they are asked for.
   *
   * @param {Source} source
   * @throws {BundleError} if there is no bundle, or its manifest is damaged or of another version
   */
  static async open(source) {
    const data = await source.manifest();
    if (data.length > MAX_MANIFEST_SIZE) {
      throw new BundleError(
        `${source.address}/manifest.json is larger than ${MAX_MANIFEST_SIZE} bytes, so it is no manifest`,
      );
    }
    let manifest;
    try {
      manifest = Manifest.parse(data);
    } catch (error) {
      const { message } = /** @type {Error} */ (error);
      throw new BundleError(`${source.address}/manifest.json: ${message}`);
    }
    const table = new TextEncoder().encode(canonical(manifest.filesToJson()));
    return new Bundle(source, manifest, await sha256(table));
  }

  /**
   * A graph with the files it reads tensors from, all verified.
   *
   * @param {string} role one of the manifest's `graphs`
   * @returns {Promise<VerifiedGraph>}
   * @throws {BundleError} if there is no such graph, or a file is missing or altered
   */
  async graph(role) {
    const { file, data } = this.graphFile(role);
    const model = await this.file(file);
    const tensors = [];
    for (const path of data) tensors.push({ path, data: await this.file(path) });
    return { model, data: tensors };
  }

  /** @param {string} role */
  graphFile(role) {
    const graph = this.manifest.graphs.get(role);
    if (graph === undefined) {
      throw new BundleError(
        `bundle ${this.source.address} has no graph ${shown(role)}, only ` +
          `${[...this.manifest.graphs.keys()].sort().join(", ")}; build it again with this graph`,
      );
    }
    return graph;
  }

  /**
   * Read and verify the files of several graphs, and hold them until {@link release}.
   *
   * @param {string[]} roles
   * @param {(done: number, total: number) => void} tell bytes
   */
  async hold(roles, tell) {
    const graphs = roles.map((role) => this.graphFile(role));
    const names = new Set(graphs.flatMap(({ file, data }) => [file, ...data]));
    const total = [...names].reduce((sum, name) => sum + this.listed(name).size, 0);
    let done = 0;
    for (const name of names) {
      const before = done;
      this.held.set(name, await this.file(name, (bytes) => tell(before + bytes, total)));
      done += this.listed(name).size;
      tell(done, total);
    }
  }

  /** Let go of what {@link hold} has read. */
  release() {
    this.held.clear();
  }

  /**
   * The content of a listed file, verified.
   *
   * @param {string} name
   * @param {(bytes: number) => void} tell
   * @throws {BundleError} if the file is not listed, missing or altered
   */
  async file(name, tell = () => {}) {
    const listed = this.listed(name);
    const held = this.held.get(name);
    if (held !== undefined) return held;
    const data = await this.source.file(name, listed, tell);
    await verify(data, listed, `${this.source.address}/${name}`);
    return data;
  }

  /** @param {string} name */
  listed(name) {
    const listed = this.manifest.files.get(name);
    if (listed === undefined) {
      throw new BundleError(
        `bundle ${this.source.address} lists no file ${shown(name)}; build it again with this file`,
      );
    }
    return listed;
  }

  /**
   * The average latent, float32 [L,W], with which an inversion starts; null if there is none.
   *
   * @throws {BundleError} if the file is missing, altered, or does not hold that
   */
  async latentAverage() {
    if (!this.manifest.files.has(LATENT_AVERAGE_NAME)) return null;
    const path = `${this.source.address}/${LATENT_AVERAGE_NAME}`;
    let average;
    try {
      average = parse(await this.file(LATENT_AVERAGE_NAME)).tensors.get("latent_average");
    } catch (error) {
      if (error instanceof BundleError) throw error;
      throw new BundleError(`${path} ${/** @type {Error} */ (error).message}; build the bundle again`);
    }
    const shape = [this.manifest.numLatents, this.manifest.latentWidth];
    const fits = average?.dtype === "float32" && String(average.shape) === String(shape);
    if (average === undefined || !fits || !average.floats.every(Number.isFinite)) {
      throw new BundleError(
        `${path} must hold the finite float32 tensor latent_average of shape ${shown(shape)}; build ` +
          "the bundle again",
      );
    }
    return average.floats;
  }
}

/**
 * Compare a file with what is said of it.
 *
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {{sha256: string, size?: number}} listed
 * @param {string} path
 * @throws {BundleError} if it is altered
 */
export async function verify(data, listed, path) {
  if (listed.size !== undefined && data.length !== listed.size) {
    throw new BundleError(
      `${path} has ${data.length} bytes where the manifest says ${listed.size}; restore the bundle or ` +
        "build it again",
    );
  }
  if ((await sha256(data)) !== listed.sha256) {
    throw new BundleError(
      `${path} is altered, its SHA-256 is not the manifest's; restore the bundle or build it again`,
    );
  }
}

/**
 * SHA-256 in lower-case hexadecimal digits, by WebCrypto.
 *
 * @param {Uint8Array<ArrayBuffer>} data
 * @throws {BackendError} where a browser has no WebCrypto: on pages that came by plain HTTP
 */
export async function sha256(data) {
  if (globalThis.crypto?.subtle === undefined) {
    throw new BackendError(
      "files cannot be verified on a page that came by plain HTTP; open it by HTTPS or from localhost",
    );
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
