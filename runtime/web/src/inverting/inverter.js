// One method on one target: what the state starts with, and how the phases are run.

import { BundleError, HyperStyleError } from "../errors.js";
import { MAX_ITERATIONS } from "../formats/methods.js";
import { shown } from "../formats/strict_json.js";
import { CODES, LATENTS } from "../renderer.js";
import { runPhases } from "./phases.js";
import { RENDERED, sizedTarget, sizeOf, State, stateName, TARGET } from "./state.js";

/** @typedef {import("../backend.js").Backend} Backend */
/** @typedef {import("../backend.js").OrtTensor} OrtTensor */
/** @typedef {import("../formats/bundle.js").Bundle} Bundle */
/** @typedef {import("../formats/manifest.js").Manifest} Manifest */
/** @typedef {import("../formats/methods.js").Method} Method */
/**
 * @typedef {object} Plan What a method needs and leaves, told from the signatures of its graphs.
 * @property {[number, number][]} sizes of the target
 * @property {boolean} average whether the state starts with the average latent
 * @property {boolean} codes whether codes are among the results
 */

/**
 * How many iterations a method is to do at most; 0 for one that does not iterate.
 *
 * @param {Manifest} manifest
 * @param {string | null} method by name; null for the bundle's default
 * @param {number | null} asked
 * @param {number | null} until
 * @throws {BundleError} if there is no such method
 * @throws {HyperStyleError} if a number is out of range, or given to a method that does not iterate
 */
export function countIterations(manifest, method, asked, until) {
  const chosen = manifest.method(method);
  if (until !== null && !(until >= 0)) {
    throw new HyperStyleError(`until must be a number of at least 0, not ${until}`);
  }
  if (chosen.iteratingPhase === null) {
    if (asked !== null || until !== null) {
      throw new HyperStyleError(
        `the method ${shown(method ?? manifest.defaultMethod)} does not iterate; leave out iterations ` +
          "and until",
      );
    }
    return 0;
  }
  if (asked === null) return chosen.iterations;
  if (!Number.isInteger(asked) || asked < 0 || asked > MAX_ITERATIONS) {
    throw new HyperStyleError(`iterations must be from 0 to ${MAX_ITERATIONS}, not ${asked}`);
  }
  return asked;
}

/** Runs the methods of a bundle. */
export class Inverter {
  /**
   * @param {Bundle} bundle
   * @param {Backend} backend
   * @param {import("../renderer.js").Renderer} renderer
   */
  constructor(bundle, backend, renderer) {
    this.bundle = bundle;
    this.backend = backend;
    this.renderer = renderer;
  }

  /**
   * Run a method on a target.
   *
   * @param {(size: [number, number]) => Float32Array} target the picture [1,3,h,w] in a size
   * @param {Method} method
   * @param {number} iterations
   * @param {import("./phases.js").Watch} watch
   * @returns {Promise<{state: State, hasCodes: boolean, iterations: number}>}
   */
  async run(target, method, iterations, watch) {
    const plan = await this.plan(method, iterations);
    const state = new State(this.renderer, this.backend, await this.start(plan, target));
    const done = await runPhases(method, iterations, state, watch);
    return { state, hasCodes: plan.codes, iterations: done };
  }

  /**
   * @param {Method} method
   * @param {number} iterations
   * @returns {Promise<Plan>}
   */
  async plan(method, iterations) {
    /** @type {Map<string, [number, number]>} */
    const sizes = new Map();
    const needed = new Set();
    const written = new Set();
    const need = (/** @type {string} */ name) => {
      if (!written.has(name)) needed.add(name);
    };
    let codes = false;
    for (const [position, { graph }] of method.phases.entries()) {
      if (position === method.iteratingPhase && iterations === 0) {
        codes = true; // a method that was stopped before its first codes leaves zeros
        continue;
      }
      const signature = await this.backend.signature(graph);
      this.checkShapes(graph, signature);
      for (const [name, shape] of signature.inputs) {
        if (name === TARGET) sizes.set(sizedTarget(sizeOf(shape)), sizeOf(shape));
        else need(RENDERED.includes(name) ? LATENTS : name);
      }
      for (const name of signature.outputs.keys()) written.add(stateName(name));
    }
    need(LATENTS); // to render the result
    codes ||= needed.has(CODES) || written.has(CODES);
    return { sizes: [...sizes.values()], average: needed.has(LATENTS), codes };
  }

  /**
   * Refuse a graph whose latents or codes are not of the manifest's shapes.
   *
   * @param {string} graph
   * @param {{inputs: import("../backend.js").Shapes, outputs: import("../backend.js").Shapes}} signature
   */
  checkShapes(graph, { inputs, outputs }) {
    const { name: bundle, numLatents, latentWidth, codes, tunedLayers } = this.bundle.manifest;
    const shapes = new Map([[LATENTS, [numLatents, latentWidth]]]);
    if (codes !== null) shapes.set(CODES, [tunedLayers.length, codes.width]);
    for (const [name, shape] of [...inputs, ...outputs]) {
      const expected = shapes.get(stateName(name));
      if (expected !== undefined && String(shape.slice(1)) !== String(expected)) {
        throw new BundleError(
          `the graph ${shown(graph)} has ${name} of shape ${shown(shape.slice(1))} where the manifest ` +
            `of bundle ${shown(bundle)} says ${shown(expected)}; build the bundle again`,
        );
      }
    }
  }

  /**
   * @param {Plan} plan
   * @param {(size: [number, number]) => Float32Array} target
   */
  async start(plan, target) {
    const { name, numLatents, latentWidth } = this.bundle.manifest;
    /** @type {import("../backend.js").Tensors} */
    const start = {};
    for (const size of plan.sizes) {
      start[sizedTarget(size)] = this.backend.tensor(target(size), [1, 3, ...size]);
    }
    if (plan.average) {
      const average = await this.bundle.latentAverage();
      if (average === null) {
        throw new BundleError(
          `bundle ${shown(name)} has no average latent for its method to start from; build it again`,
        );
      }
      start[LATENTS] = this.backend.tensor(average, [1, numLatents, latentWidth]);
    }
    const codes = this.renderer.zeroCodes();
    if (codes !== null) start[CODES] = codes;
    return start;
  }
}
