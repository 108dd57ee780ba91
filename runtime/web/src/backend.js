// Graphs of a bundle in ONNX Runtime for browsers: WebAssembly, or WebGPU.

import { BackendError, BundleError, asError } from "./errors.js";
import { shown } from "./formats/strict_json.js";

/** @typedef {import("onnxruntime-common").InferenceSession} InferenceSession */
/** @typedef {import("onnxruntime-common").Tensor} OrtTensor */
/** @typedef {typeof import("onnxruntime-common")} Ort */
/** @typedef {"wasm" | "webgpu"} Provider */
/** @typedef {{[name: string]: OrtTensor}} Tensors */
/** @typedef {Map<string, (number | null)[]>} Shapes name to shape; null for a length that is free */

export const PRECISION = "fp32";

/** Opens graphs when they are first run; one run at a time. */
export class Backend {
  /**
   * @param {Ort} ort the module onnxruntime-web
   * @param {import("./formats/bundle.js").Bundle} bundle
   * @param {Provider} provider
   */
  constructor(ort, bundle, provider) {
    this.ort = ort;
    this.bundle = bundle;
    this.provider = provider;
    /** @type {Map<string, Promise<InferenceSession>>} */
    this.sessions = new Map();
    /** @type {Promise<unknown>} */
    this.last = Promise.resolve();
  }

  /** What a result and its file say of what computed it. */
  get computed() {
    return { backend: "onnxruntime-web", provider: this.provider, precision: PRECISION };
  }

  /**
   * Open a graph, if it is not open.
   *
   * @param {string} role
   * @throws {BundleError} if the bundle lacks it, or a file of it is altered
   * @throws {BackendError} if ONNX Runtime cannot open it
   */
  async session(role) {
    let opening = this.sessions.get(role);
    if (opening === undefined) {
      opening = this.inTurn(() => this.open(role));
      this.sessions.set(role, opening);
      opening.catch(() => this.sessions.delete(role));
    }
    return await opening;
  }

  /** @param {string} role */
  async open(role) {
    const { model, data } = await this.bundle.graph(role);
    try {
      return await this.ort.InferenceSession.create(model, {
        executionProviders: [this.provider],
        externalData: data,
        logSeverityLevel: 3, // errors: what providers remark on is of no use to a visitor
      });
    } catch (error) {
      const mend =
        this.provider === "wasm"
          ? "close other pages if memory is short, or use another browser"
          : "add ?provider=wasm to the page's address";
      throw new BackendError(
        `the graph ${shown(role)} cannot be opened with ${this.provider} (${firstLine(error)}); ${mend}`,
      );
    }
  }

  /**
   * Shapes of a graph's inputs and outputs.
   *
   * @param {string} role
   * @returns {Promise<{inputs: Shapes, outputs: Shapes}>}
   */
  async signature(role) {
    const { inputMetadata, outputMetadata } = await this.session(role);
    return { inputs: shapesOf(inputMetadata), outputs: shapesOf(outputMetadata) };
  }

  /**
   * Run a graph.
   *
   * @param {string} role
   * @param {Tensors} feeds those that the graph does not read are left out
   * @returns {Promise<Tensors>} its outputs, in the memory of JavaScript
   * @throws {BackendError} if it fails
   */
  async run(role, feeds) {
    const session = await this.session(role);
    const read = Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]]));
    return await this.inTurn(async () => {
      try {
        return await session.run(read);
      } catch (error) {
        throw new BackendError(
          `the graph ${shown(role)} failed (${firstLine(error)}); close other pages if memory is ` +
            "short, and load this one again",
        );
      }
    });
  }

  /**
   * @param {Float32Array} values
   * @param {number[]} shape
   * @returns {OrtTensor}
   */
  tensor(values, shape) {
    return new this.ort.Tensor("float32", values, shape);
  }

  /** Close all graphs. */
  async close() {
    const sessions = [...this.sessions.values()];
    this.sessions.clear();
    await this.inTurn(async () => {
      for (const session of sessions) await (await session).release();
    });
  }

  /**
   * ONNX Runtime in WebAssembly does one thing at a time.
   *
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  inTurn(work) {
    const turn = this.last.then(work);
    this.last = turn.catch(() => {});
    return turn;
  }
}

/**
 * The numbers of a tensor that a graph has given.
 *
 * @param {OrtTensor} tensor
 */
export function floatsOf(tensor) {
  return /** @type {Float32Array} */ (tensor.data);
}

/**
 * @param {readonly import("onnxruntime-common").InferenceSession.ValueMetadata[]} metadata
 * @returns {Shapes}
 */
function shapesOf(metadata) {
  return new Map(
    metadata.map((value) => {
      if (!value.isTensor) throw new BundleError(`${shown(value.name)} of a graph is no tensor`);
      return [value.name, value.shape.map((length) => (typeof length === "number" ? length : null))];
    }),
  );
}

/** @param {unknown} error */
function firstLine(error) {
  return asError(error).message.split("\n")[0].slice(0, 300);
}
