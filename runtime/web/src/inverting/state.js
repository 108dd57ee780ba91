// The named tensors that the phases of a method read and write.
//
// A graph's inputs are bound by name from the state and its outputs replace the state. ONNX cannot give
// an input and an output one name, so an output `codes_next` replaces the state `codes`. What is
// rendered of latents and codes is stale once either is replaced, and rendered anew when read.

import { BundleError } from "../errors.js";
import { shown } from "../formats/strict_json.js";
import { CODES, LATENTS, RECONSTRUCTION, RENDERING } from "../renderer.js";

/** @typedef {import("../backend.js").Backend} Backend */
/** @typedef {import("../backend.js").OrtTensor} OrtTensor */
/** @typedef {import("../backend.js").Tensors} Tensors */
/** @typedef {import("../renderer.js").Renderer} Renderer */

export const TARGET = "target";
const NEXT = "_next";
export const RENDERED = [RENDERING, RECONSTRUCTION];

/**
 * The tensors of one inversion by name: `target` [1,3,h,w] in every size that a graph asks for,
 * `latents` [1,L,W] that start as the bundle's average, `codes` [1,M,K+1] that start as zero,
 * `rendering` [1,3,H,W] and `reconstruction` [1,3,h,w] that are rendered when read, and whatever
 * phases have put there.
 */
export class State {
  /**
   * @param {Renderer} renderer
   * @param {Backend} backend
   * @param {Tensors} start the first tensors; targets under {@link sizedTarget}
   */
  constructor(renderer, backend, start) {
    this.renderer = renderer;
    this.backend = backend;
    /** @type {Map<string, OrtTensor>} */
    this.tensors = new Map(Object.entries(start));
    this.codesAreZero = true;
  }

  /**
   * A tensor; undefined if no phase has put it there.
   *
   * @param {string} name
   */
  async get(name) {
    if (RENDERED.includes(name) && !this.tensors.has(name)) await this.render();
    return this.tensors.get(name);
  }

  /**
   * Run a graph on the state, which stays as it is.
   *
   * @param {string} graph
   * @returns {Promise<Tensors>} the graph's outputs
   * @throws {BundleError} if the graph reads a tensor that is not there
   */
  async run(graph) {
    const { inputs } = await this.backend.signature(graph);
    /** @type {Tensors} */
    const feeds = {};
    for (const [name, shape] of inputs) {
      const tensor = await this.get(name === TARGET ? sizedTarget(sizeOf(shape)) : name);
      if (tensor === undefined) {
        throw new BundleError(
          `the graph ${shown(graph)} reads the tensor ${shown(name)}, which no phase before it has ` +
            "given; build the bundle again",
        );
      }
      feeds[name] = tensor;
    }
    return await this.backend.run(graph, feeds);
  }

  /**
   * Let the outputs of a graph replace the state.
   *
   * @param {Tensors} outputs
   */
  replace(outputs) {
    const written = Object.entries(outputs).map(([name, tensor]) => ({ name: stateName(name), tensor }));
    const changes = (/** @type {string} */ wanted) => written.some(({ name }) => name === wanted);
    if (changes(LATENTS) || changes(CODES)) {
      for (const name of RENDERED) this.tensors.delete(name);
    }
    if (changes(CODES)) this.codesAreZero = false;
    for (const { name, tensor } of written) this.tensors.set(name, tensor);
  }

  async render() {
    const codes = this.tensors.get(CODES) ?? null;
    const kernels = this.codesAreZero
      ? await this.renderer.baseKernels()
      : await this.renderer.expand(codes);
    const latents = /** @type {OrtTensor} */ (this.tensors.get(LATENTS));
    for (const [name, tensor] of Object.entries(await this.renderer.render(latents, kernels))) {
      if (!this.tensors.has(name)) this.tensors.set(name, tensor); // what a phase has given stays
    }
  }
}

/** @param {string} output Name of the state that a graph's output replaces. */
export function stateName(output) {
  return output.endsWith(NEXT) ? output.slice(0, -NEXT.length) : output;
}

/** @param {[number, number]} size Name under which a state holds the target in one size. */
export function sizedTarget([height, width]) {
  return `${TARGET} ${height}x${width}`;
}

/**
 * (height, width) that a graph asks of a picture.
 *
 * @param {(number | null)[]} shape
 * @returns {[number, number]}
 * @throws {BundleError} if it fixes none
 */
export function sizeOf(shape) {
  const [height, width] = shape.slice(-2);
  if (height === null || width === null) {
    throw new BundleError(
      "a graph of the bundle takes pictures of any size, so none can be made for it; build the bundle again",
    );
  }
  return [height, width];
}
