// The three small networks that find faces and eyes; for their sources see models/README.md.

import { verify } from "../formats/bundle.js";
import { floatsOf } from "../backend.js";

/** @typedef {import("../backend.js").Ort} Ort */
/** @typedef {import("../backend.js").InferenceSession} InferenceSession */
/** @typedef {import("../imaging/pictures.js").Picture} Picture */
/** @typedef {(name: string, digest: string) => Promise<Uint8Array<ArrayBuffer>>} ReadModel */

/** SHA-256 of every model. */
export const MODEL_DIGESTS = new Map([
  ["face_detector.onnx", "f64a92f270b611b42dbb1f71aacb45f7e534231f294531d87dc6c3db9baa5737"],
  ["face_mesh.onnx", "d81130566a1e48eea5ba30e77b2eb267906e45266c0fa6a3cb72f590d9f49eb3"],
  ["eye_contour.onnx", "5d4a75a76f04739d6e79aae0f5ec9a45f2b8a5f88ef2fe6895633a81ec14b75f"],
]);

/** Runs them; opened when they are first needed. */
export class FaceModels {
  /**
   * @param {Ort} ort
   * @param {ReadModel} read
   * @param {import("../backend.js").Backend} backend whose runs these alternate with
   */
  constructor(ort, read, backend) {
    this.ort = ort;
    this.read = read;
    this.backend = backend;
    /** @type {Map<string, Promise<InferenceSession>>} */
    this.sessions = new Map();
  }

  /**
   * Run a model on one picture.
   *
   * @param {string} model file name
   * @param {Picture} picture which the model reads as `lowest` to `lowest + span`
   * @param {number} span
   * @param {number} lowest
   * @returns {Promise<{[name: string]: Float32Array}>} its outputs
   */
  async run(model, { height, width, data }, span = 1, lowest = 0) {
    const pixels = height * width;
    const planes = new Float32Array(3 * pixels);
    const factor = Math.fround(span / 255);
    for (let pixel = 0; pixel < pixels; pixel += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        planes[channel * pixels + pixel] = Math.fround(data[3 * pixel + channel] * factor) + lowest;
      }
    }
    const session = await this.session(model);
    const image = new this.ort.Tensor("float32", planes, [1, 3, height, width]);
    const outputs = await this.backend.inTurn(() => session.run({ image }));
    return Object.fromEntries(
      Object.entries(outputs).map(([name, tensor]) => [name, floatsOf(tensor)]),
    );
  }

  /** @param {string} model */
  async session(model) {
    let opening = this.sessions.get(model);
    if (opening === undefined) {
      opening = this.open(model);
      this.sessions.set(model, opening);
      opening.catch(() => this.sessions.delete(model));
    }
    return await opening;
  }

  /** @param {string} model */
  async open(model) {
    const digest = /** @type {string} */ (MODEL_DIGESTS.get(model));
    const data = await this.read(model, digest);
    await verify(data, { sha256: digest }, model);
    // Milliseconds of work: not worth a GPU, whose kernels are compiled first.
    const options = { executionProviders: ["wasm"], logSeverityLevel: /** @type {3} */ (3) };
    return await this.backend.inTurn(() => this.ort.InferenceSession.create(data, options));
  }
}
