// From latents, codes and channel offsets to renderings: the graphs from `weights` on.

import { floatsOf } from "./backend.js";
import { BundleError } from "./errors.js";
import { toSingles } from "./formats/halves.js";
import { shown } from "./formats/strict_json.js";

/** @typedef {import("./backend.js").Backend} Backend */
/** @typedef {import("./backend.js").Tensors} Tensors */
/** @typedef {import("./formats/manifest.js").Manifest} Manifest */
/**
 * @typedef {object} Changes What is changed of a generator beside its latents; null for nothing.
 * @property {Float32Array | null} codes [M,K+1]
 * @property {Float32Array | null} channelOffsets [P]
 * @property {Float32Array | null} noise [N], in place of the stored noise
 */

// Names that every host knows, in graphs and in the state of a method.
export const LATENTS = "latents";
export const CODES = "codes";
export const RENDERING = "rendering";
export const RECONSTRUCTION = "reconstruction";

const WEIGHTS = "weights";
const GENERATOR = "generator";
const STYLED_GENERATOR = "styled_generator";
const CHANNEL_OFFSETS = "channel_offsets";
const NOISE = "noise";
const STYLE_OFFSETS = "style_offsets";

/** The graphs of a bundle that lead to pictures. */
export class Renderer {
  /**
   * @param {Manifest} manifest
   * @param {Backend} backend
   */
  constructor(manifest, backend) {
    this.manifest = manifest;
    this.backend = backend;
    /** @type {Promise<Tensors> | null} */
    this.base = null;
    /** @type {Promise<Tensors> | null} */
    this.stored = null;
  }

  /** The graphs that every rendering runs. */
  get graphs() {
    return this.manifest.graphs.has(WEIGHTS) ? [WEIGHTS, GENERATOR] : [GENERATOR];
  }

  /** Codes [1,M,K+1] that change no kernel; null where the bundle knows no codes. */
  zeroCodes() {
    const { codes, tunedLayers } = this.manifest;
    if (codes === null) return null;
    const shape = [1, tunedLayers.length, codes.width];
    return this.backend.tensor(new Float32Array(shape[1] * shape[2]), shape);
  }

  /**
   * Expand codes, a tensor [1,M,K+1], into the kernels `weight.<layer>` [O,I,k,k].
   *
   * @param {import("./backend.js").OrtTensor | null} codes
   */
  async expand(codes) {
    if (!this.manifest.graphs.has(WEIGHTS)) return {};
    return await this.backend.run(WEIGHTS, codes === null ? {} : { [CODES]: codes });
  }

  /** Kernels of the generator itself, those of codes of zero. */
  async baseKernels() {
    if (this.base === null) {
      this.base = this.expand(this.zeroCodes());
      this.base.catch(() => (this.base = null)); // to be tried again
    }
    return await this.base;
  }

  /**
   * Kernels of an inversion.
   *
   * @param {Changes} changes
   * @throws {BundleError} if the bundle was built without the graph that adds channel offsets
   */
  async kernels({ codes, channelOffsets }) {
    const base = await this.baseKernels();
    const tuned = codes === null ? base : await this.expand(this.codesTensor(codes));
    if (channelOffsets === null) return tuned;
    this.require(CHANNEL_OFFSETS, "add channel offsets to its kernels");
    return await this.backend.run(CHANNEL_OFFSETS, {
      [CHANNEL_OFFSETS]: this.backend.tensor(channelOffsets, [channelOffsets.length]),
      ...renamed(tuned, "tuned."),
      ...renamed(base, "base."),
    });
  }

  /**
   * Render latents.
   *
   * @param {import("./backend.js").OrtTensor} latents [1,L,W]
   * @param {Tensors} kernels
   * @param {Float32Array | null} styles [S], added to the styles of all layers
   * @param {Float32Array | null} noise [N], in place of the stored noise
   * @returns {Promise<Tensors>} `rendering` [1,3,H,W] and `reconstruction` [1,3,h,w]
   * @throws {BundleError} if the bundle has no generator that takes these
   */
  async render(latents, kernels, styles = null, noise = null) {
    const inputs = { [LATENTS]: latents, ...kernels };
    if (styles === null && noise === null) return await this.backend.run(GENERATOR, inputs);
    this.require(STYLED_GENERATOR, "change styles or noise");
    const width = this.manifest.styleChannels;
    return await this.backend.run(STYLED_GENERATOR, {
      ...inputs,
      ...(noise === null ? await this.storedNoise() : this.split(noise)),
      [STYLE_OFFSETS]: this.backend.tensor(styles ?? new Float32Array(width), [1, width]),
    });
  }

  /** The stored noise, [N]; of no numbers for a generator without noise. */
  async flatNoise() {
    const maps = await this.storedNoise();
    const flat = this.noiseLayers.flatMap(({ name }) => [floatsOf(maps[`noise.${name}`])]);
    return joined(flat);
  }

  async storedNoise() {
    if (!this.manifest.graphs.has(NOISE)) return {};
    if (this.stored === null) {
      this.stored = this.backend.run(NOISE, {});
      this.stored.catch(() => (this.stored = null)); // to be tried again
    }
    return await this.stored;
  }

  get noiseLayers() {
    return this.manifest.optionalInputs?.noise ?? [];
  }

  /**
   * Noise maps `noise.<layer>` [1,1,s,s] of flat noise.
   *
   * @param {Float32Array} flat
   * @returns {Tensors}
   */
  split(flat) {
    let start = 0;
    return Object.fromEntries(
      this.noiseLayers.map(({ name, side }) => {
        const map = flat.slice(start, (start += side * side));
        return [`noise.${name}`, this.backend.tensor(map, [1, 1, side, side])];
      }),
    );
  }

  /** @param {Float32Array} codes */
  codesTensor(codes) {
    const rows = this.manifest.tunedLayers.length;
    return this.backend.tensor(codes, [1, rows, codes.length / rows]);
  }

  /**
   * @param {string} graph
   * @param {string} purpose
   */
  require(graph, purpose) {
    if (!this.manifest.graphs.has(graph)) {
      throw new BundleError(
        `bundle ${shown(this.manifest.name)} has no graph to ${purpose}; build it again with this version`,
      );
    }
  }
}

/**
 * What an inversion file changes of the generator.
 *
 * @param {import("./formats/inversion_file.js").InversionData} data
 * @returns {Changes}
 */
export function changesOf({ needed }) {
  const halves = (/** @type {string} */ name) => {
    const tensor = needed.get(name);
    return tensor === undefined ? null : toSingles(tensor.halves);
  };
  return {
    codes: needed.get(CODES)?.floats ?? null,
    channelOffsets: halves(CHANNEL_OFFSETS),
    noise: halves(NOISE),
  };
}

/**
 * @param {Tensors} kernels
 * @param {string} prefix in place of `weight.`
 * @returns {Tensors}
 */
function renamed(kernels, prefix) {
  return Object.fromEntries(
    Object.entries(kernels).map(([name, kernel]) => [name.replace("weight.", prefix), kernel]),
  );
}

/** @param {Float32Array[]} parts */
function joined(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
