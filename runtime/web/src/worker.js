// The worker of a page: a model that computes beside it. It is asked {call, operation, args} and answers
// {call, value} or {call, problem: {name, message}}, before that {call, news} as work goes on;
// {cancel: call} gives an inversion up, or a file that is opened.

import { BackendError, BundleError, asError } from "./errors.js";
import { sha256 } from "./formats/bundle.js";
import { cached, HttpSource } from "./formats/http_source.js";
import { decodePicture, encodePicture } from "./imaging/canvas.js";
import { Model } from "./model.js";

/** @typedef {import("./backend.js").Ort} Ort */
/** @typedef {import("./backend.js").Provider} Provider */
/** @typedef {import("./editing.js").Amounts} Amounts */
/** @typedef {import("./formats/inversion_file.js").InversionData} InversionData */
/** @typedef {import("./imaging/pictures.js").Picture} Picture */
/** @typedef {(news: {kind: string, [fact: string]: unknown}) => void} Tell */
/**
 * @typedef {object} OpenOptions
 * @property {string} bundle address of its folder
 * @property {string} models address of the folder of the face models
 * @property {string} runtime address of the folder of onnxruntime-web's files, with a slash at its end
 * @property {number} threads at most; more than one needs a page that is isolated from other origins
 * @property {string} provider `wasm`, `webgpu`, or empty for WebGPU where there is one
 */

const PREVIEW = { type: "image/jpeg", size: 512 };

class Desk {
  constructor() {
    /** @type {Model | null} */
    this.opened = null;
    /** @type {Map<number, {data: InversionData, crop: Picture | null}>} */
    this.kept = new Map();
    this.cancelled = new Set();
  }

  get model() {
    if (this.opened === null) throw new BackendError("no bundle is open; load the page again");
    return this.opened;
  }

  /** @param {OpenOptions} options */
  async open({ bundle, models, runtime, threads, provider }) {
    const chosen = provider === "" ? await bestProvider() : /** @type {Provider} */ (provider);
    const ort = await loadRuntime(runtime, chosen, threads);
    const read = async (/** @type {string} */ name, /** @type {string} */ digest) =>
      await cached(`${models}/${name}`, digest, () => {});
    this.opened = await Model.load(new HttpSource(bundle), ort, read, chosen);
    const { manifest, directions } = this.opened;
    const [height, width] = manifest.imageSize;
    return {
      name: manifest.name,
      domain: manifest.domain,
      license: manifest.license,
      height,
      width,
      methods: [...manifest.methods].map(([name, { iterations }]) => ({
        name,
        iterations,
        is_default: name === manifest.defaultMethod,
      })),
      gradient_steps: [],
      then: null,
      directions: [...directions].map(([name, { unit }]) => ({ name, unit })),
      adapted: [],
      films: [],
      computed: this.opened.backend.computed,
      threads: ort.env.wasm.numThreads,
    };
  }

  /**
   * @param {{file: Blob, method: string, iterations: string, then: string, align: string, face: string}} asked
   * @param {Tell} tell
   * @param {number} call
   */
  async invert({ file, method, iterations, then, align, face }, tell, call) {
    if (then !== "" && then !== "none") {
      throw new BackendError(
        "gradient steps are not taken in a browser; leave them out, or use hyperstyle-rt invert",
      );
    }
    const { model } = this;
    const content = new Uint8Array(await file.arrayBuffer());
    const picture = await decodePicture(file);
    const name = method === "" ? null : method;
    await model.prepare(name, (done, total) => {
      this.check(call);
      tell({ kind: "loading", done, total });
    });
    const { crop, notice } = await model.crop(picture, { align, face });
    tell({ kind: "crop", notice, picture: await encodePicture(crop.picture, PREVIEW) });
    /** @type {Promise<void>[]} */
    const told = [];
    const { data } = await model.invert(crop, {
      method: name,
      iterations: iterations === "" ? null : Number(iterations),
      picture: await sha256(content),
      pause: async () => await this.pause(call),
      onIteration: (number, rendering) => {
        const encoded = encodePicture(rendering, PREVIEW);
        told.push(encoded.then((image) => tell({ kind: "iteration", number, picture: image })));
      },
    });
    await Promise.all(told);
    return this.keep(call, data, crop.picture, notice);
  }

  /**
   * @param {{file: Blob}} asked
   * @param {Tell} tell
   * @param {number} call
   */
  async openFile({ file }, tell, call) {
    const data = this.model.open(new Uint8Array(await file.arrayBuffer()));
    await this.model.prepare(null, (done, total) => {
      this.check(call);
      tell({ kind: "loading", done, total });
    });
    return this.keep(call, data, null, null);
  }

  /**
   * @param {number} id
   * @param {InversionData} data
   * @param {Picture | null} crop
   * @param {string | null} notice
   */
  keep(id, data, crop, notice) {
    this.kept.set(id, { data, crop });
    const { method, iterations, picture, computed } = data;
    return {
      id: String(id),
      method,
      iterations,
      picture,
      computed,
      has_crop: crop !== null,
      in_photo: false, // it is not set back into photos here
      ...(notice === null ? {} : { notice }),
    };
  }

  /** @param {{id: string, amounts: Amounts, size?: number, format?: string}} asked */
  async render({ id, amounts, size, format }) {
    const picture = await this.model.render(this.inversion(id).data, amounts);
    return await encodePicture(picture, { type: `image/${format ?? "jpeg"}`, size });
  }

  /** @param {{first: string, second: string, fraction: number, size?: number}} asked */
  async between({ first, second, fraction, size }) {
    const [one, other] = [this.inversion(first).data, this.inversion(second).data];
    const picture = await this.model.interpolate(one, other, fraction);
    return await encodePicture(picture, { type: "image/jpeg", size });
  }

  /** @param {{id: string}} asked */
  async crop({ id }) {
    const { crop } = this.inversion(id);
    if (crop === null) throw new BackendError("this inversion came as a file, which does not hold its input");
    return await encodePicture(crop, { type: "image/png" });
  }

  /** @param {{id: string}} asked */
  async file({ id }) {
    return new Blob([this.inversion(id).data.toBytes()], { type: "application/octet-stream" });
  }

  /** @param {string} id */
  inversion(id) {
    const kept = this.kept.get(Number(id));
    if (kept === undefined) throw new BackendError("there is no such inversion on this page any more");
    return kept;
  }

  /**
   * Let messages in, and give up if one of them asks for it.
   *
   * @param {number} call
   */
  async pause(call) {
    await new Promise((later) => setTimeout(later));
    this.check(call);
  }

  /** @param {number} call */
  check(call) {
    if (this.cancelled.delete(call)) throw new DOMException("given up", "AbortError");
  }
}

/** WebGPU, where the browser has a graphics processor for it. */
async function bestProvider() {
  const { gpu } = /** @type {any} */ (navigator);
  const adapter = await gpu?.requestAdapter().catch(() => null);
  const isSlow = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter ?? false;
  return adapter && !isSlow ? "webgpu" : "wasm";
}

/**
 * Import onnxruntime-web.
 *
 * @param {string} address
 * @param {Provider} provider
 * @param {number} threads
 * @returns {Promise<Ort>}
 */
async function loadRuntime(address, provider, threads) {
  let ort;
  try {
    ort = await import(new URL(`ort.${provider}.min.mjs`, address).href);
  } catch (error) {
    throw new BundleError(
      `onnxruntime-web cannot be loaded (${asError(error).message}); write the static page again with ` +
        "hyperstyle-rt serve --static",
    );
  }
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = address;
  // Threads share memory, which browsers allow on isolated pages only.
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? threads : 1;
  return ort;
}

const desk = new Desk();
/** @type {{[operation: string]: (args: any, tell: Tell, call: number) => Promise<unknown>}} */
const operations = {
  open: (args) => desk.open(args),
  invert: (args, tell, call) => desk.invert(args, tell, call),
  openFile: (args, tell, call) => desk.openFile(args, tell, call),
  render: (args) => desk.render(args),
  between: (args) => desk.between(args),
  crop: (args) => desk.crop(args),
  file: (args) => desk.file(args),
};

self.addEventListener("message", async ({ data }) => {
  if ("cancel" in data) {
    desk.cancelled.add(data.cancel);
    return;
  }
  const { call, operation, args } = data;
  try {
    const tell = (/** @type {unknown} */ news) => self.postMessage({ call, news });
    self.postMessage({ call, value: await operations[operation](args, tell, call) });
  } catch (error) {
    const { name, message } = asError(error);
    self.postMessage({ call, problem: { name, message } });
  }
});
