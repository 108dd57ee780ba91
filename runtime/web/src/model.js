// A bundle that inverts and renders pictures: what the page's worker and Node programs use.

import { Backend, floatsOf } from "./backend.js";
import { between, editLatents } from "./editing.js";
import { HyperStyleError } from "./errors.js";
import { Bundle } from "./formats/bundle.js";
import { DIRECTIONS_NAME, parseDirections } from "./formats/directions_file.js";
import { InversionData } from "./formats/inversion_file.js";
import { checkFits } from "./formats/inversion_fit.js";
import { Tensor } from "./formats/safetensors.js";
import { WholeFloat } from "./formats/strict_json.js";
import { toInput, toPicture } from "./imaging/pictures.js";
import { countIterations, Inverter } from "./inverting/inverter.js";
import { FaceModels } from "./photos/face_models.js";
import { cropOf } from "./photos/portraits.js";
import { changesOf, CODES, LATENTS, Renderer, RENDERING } from "./renderer.js";

/** @typedef {import("./backend.js").Ort} Ort */
/** @typedef {import("./backend.js").OrtTensor} OrtTensor */
/** @typedef {import("./backend.js").Provider} Provider */
/** @typedef {import("./editing.js").Amounts} Amounts */
/** @typedef {import("./imaging/pictures.js").Picture} Picture */
/** @typedef {import("./inverting/state.js").State} State */
/** @typedef {import("./photos/portraits.js").Crop} Crop */
/**
 * @typedef {object} InvertOptions
 * @property {string | null} [method] one of the bundle's, by name; null for its default
 * @property {number | null} [iterations] upper bound, 0 to 100; null for the method's own number
 * @property {number | null} [until] stop once the reconstruction moves by less than this between
 *   iterations (mean absolute difference on the [-1,1] scale); null to do all iterations
 * @property {string | null} [picture] SHA-256 of the picture's file, for the inversion file
 * @property {(number: number, rendering: Picture) => void} [onIteration]
 * @property {() => Promise<void>} [pause] called before every run of a graph; what it throws gives up
 */

export class Model {
  /**
   * @param {Bundle} bundle
   * @param {Backend} backend
   * @param {Map<string, import("./formats/directions_file.js").Direction>} directions
   * @param {FaceModels} faceModels
   */
  constructor(bundle, backend, directions, faceModels) {
    this.bundle = bundle;
    this.backend = backend;
    this.directions = directions;
    this.faceModels = faceModels;
    this.renderer = new Renderer(bundle.manifest, backend);
    this.inverter = new Inverter(bundle, backend, this.renderer);
    /** @type {{of: InversionData, kernels: Promise<import("./backend.js").Tensors>} | null} */
    this.expanded = null;
  }

  /**
   * Open a bundle; graphs are opened when they are first needed, or by {@link prepare}.
   *
   * @param {import("./formats/bundle.js").Source} source
   * @param {Ort} ort the module onnxruntime-web
   * @param {import("./photos/face_models.js").ReadModel} readModel reads a face model by its name
   * @param {Provider} provider
   * @throws {BundleError} if there is no bundle, or a file of it is missing, altered or damaged
   */
  static async load(source, ort, readModel, provider = "wasm") {
    const bundle = await Bundle.open(source);
    const backend = new Backend(ort, bundle, provider);
    const directions = bundle.manifest.files.has(DIRECTIONS_NAME)
      ? parseDirections(await bundle.file(DIRECTIONS_NAME), bundle.manifest)
      : new Map();
    return new Model(bundle, backend, directions, new FaceModels(ort, readModel, backend));
  }

  get manifest() {
    return this.bundle.manifest;
  }

  /**
   * Read and open all graphs of a method and of renderings.
   *
   * @param {string | null} method
   * @param {(done: number, total: number) => void} tell bytes
   */
  async prepare(method, tell) {
    const phases = this.manifest.method(method).phases.map(({ graph }) => graph);
    const graphs = [...new Set([...phases, ...this.renderer.graphs])];
    const missing = graphs.filter((role) => !this.backend.sessions.has(role));
    try {
      await this.bundle.hold(missing, tell);
      for (const role of missing) await this.backend.session(role);
    } finally {
      this.bundle.release();
    }
  }

  /**
   * Decide what to invert of a picture; see {@link cropOf}.
   *
   * @param {Picture} picture
   * @param {{align?: string, face?: string}} options
   */
  async crop(picture, options = {}) {
    return await cropOf(picture, this.manifest, this.faceModels, options);
  }

  /**
   * Invert a picture by a method of the bundle.
   *
   * @param {Crop} crop
   * @param {InvertOptions} options
   * @returns {Promise<{data: InversionData, rendering: Picture}>}
   * @throws {BundleError} if there is no such method, or a file is missing or altered
   * @throws {HyperStyleError} if a number is out of range, or given to a method that does not iterate
   */
  async invert(crop, options = {}) {
    const { method = null, iterations = null, until = null, picture = null } = options;
    const count = countIterations(this.manifest, method, iterations, until);
    const target = (/** @type {[number, number]} */ size) => toInput(crop.picture, size);
    const found = await this.inverter.run(target, this.manifest.method(method), count, {
      until,
      pause: options.pause ?? (async () => {}),
      onIteration: async (number, state) => options.onIteration?.(number, await this.shown(state)),
    });
    const { state } = found;
    const codes = found.hasCodes ? await state.get(CODES) : undefined;
    /** @type {{[key: string]: import("./formats/json.js").Json}} */
    const settings = {};
    if (this.manifest.method(method).iteratingPhase !== null) settings.iterations = count;
    if (until !== null) settings.until = Number.isInteger(until) ? new WholeFloat(until) : until;
    const data = new InversionData({
      latents: inFile(/** @type {OrtTensor} */ (await state.get(LATENTS))),
      needed: new Map(codes === undefined ? [] : [[CODES, inFile(codes)]]),
      transform: crop.transform && Tensor.float32([3, 3], Float32Array.from(crop.transform.flat())),
      iterations: found.iterations,
      space: this.manifest.space,
      codeSpace: codes === undefined ? null : (this.manifest.codes?.space ?? null),
      bundleName: this.manifest.name,
      bundleDigest: this.bundle.digest,
      method: method ?? this.manifest.defaultMethod ?? "",
      settings,
      computed: this.backend.computed,
      picture,
    });
    return { data, rendering: await this.shown(state) };
  }

  /**
   * Read the content of an inversion file of this bundle's space.
   *
   * @param {Uint8Array} content
   * @throws {InversionError} if it is damaged, or cannot be rendered by this bundle here
   */
  open(content) {
    const data = InversionData.parse(content);
    checkFits(data, this.manifest);
    return data;
  }

  /**
   * Render an inversion, edited along directions of the bundle.
   *
   * @param {InversionData} data
   * @param {Amounts} amounts
   * @returns {Promise<Picture>}
   * @throws {EditError} if a direction is unknown, or an amount is not a finite number
   * @throws {InversionError} if the inversion is of another space
   */
  async render(data, amounts = {}) {
    checkFits(data, this.manifest);
    const width = this.manifest.latentWidth;
    const { latents, styles } = editLatents(this.directions, data.latents.floats, width, amounts);
    const changes = changesOf(data);
    if (this.expanded?.of !== data) {
      const kernels = this.renderer.kernels(changes);
      const expanded = { of: data, kernels };
      this.expanded = expanded;
      kernels.catch(() => {
        if (this.expanded === expanded) this.expanded = null; // to be tried again
      });
    }
    return await this.rendered(latents, await this.expanded.kernels, styles, changes.noise);
  }

  /**
   * Render what lies between two faces.
   *
   * @param {InversionData} first
   * @param {InversionData} second
   * @param {number} fraction 0 is the first face, 1 the second
   * @returns {Promise<Picture>}
   * @throws {InversionError} if one of the inversions is of another space
   * @throws {HyperStyleError} if the fraction is no finite number
   */
  async interpolate(first, second, fraction) {
    if (!Number.isFinite(fraction)) {
      throw new HyperStyleError(`the fraction must be a finite number, not ${fraction}`);
    }
    for (const data of [first, second]) checkFits(data, this.manifest);
    const ends = [changesOf(first), changesOf(second)];
    const stored = ends.some(({ noise }) => noise !== null) ? await this.renderer.flatNoise() : null;
    const kernels = await this.renderer.kernels({
      codes: between(ends[0].codes, ends[1].codes, fraction),
      channelOffsets: between(ends[0].channelOffsets, ends[1].channelOffsets, fraction),
      noise: null,
    });
    const latents = between(first.latents.floats, second.latents.floats, fraction);
    const noise = between(ends[0].noise ?? stored, ends[1].noise ?? stored, fraction);
    return await this.rendered(/** @type {Float32Array} */ (latents), kernels, null, noise);
  }

  /** Close all graphs. */
  async close() {
    await this.backend.close();
  }

  /**
   * @param {Float32Array} latents [L,W]
   * @param {import("./backend.js").Tensors} kernels
   * @param {Float32Array | null} styles
   * @param {Float32Array | null} noise
   */
  async rendered(latents, kernels, styles, noise) {
    const { numLatents, latentWidth } = this.manifest;
    const batch = this.backend.tensor(latents, [1, numLatents, latentWidth]);
    const outputs = await this.renderer.render(batch, kernels, styles, noise);
    return toPicture(floatsOf(outputs[RENDERING]), this.manifest.imageSize);
  }

  /** @param {State} state */
  async shown(state) {
    const rendering = /** @type {OrtTensor} */ (await state.get(RENDERING));
    return toPicture(floatsOf(rendering), this.manifest.imageSize);
  }
}

/** @param {OrtTensor} tensor A tensor of a batch of one as a file holds it. */
function inFile(tensor) {
  return Tensor.float32(tensor.dims.slice(1), floatsOf(tensor).slice());
}
