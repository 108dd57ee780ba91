// Methods as a manifest lists them: phases over named state, which every host runs alike.
//
// A phase runs one graph: its inputs are fed from the state by name, its outputs replace the state, an
// output `<name>_next` the state `<name>`. docs/architecture.md has the whole rule.

import { invalid } from "./fields.js";

/** @typedef {import("./fields.js").Fields} Fields */
/** @typedef {{graph: string, repeat: number | null}} Phase repeat is null for what is no iteration */

export const MAX_ITERATIONS = 100;
const MAX_PHASES = 32;

export class Method {
  /** @param {Phase[]} phases one after the other */
  constructor(phases) {
    this.phases = phases;
  }

  /** Position of the phase that a number of iterations replaces; null where none repeats. */
  get iteratingPhase() {
    const at = this.phases.findLastIndex(({ repeat }) => repeat !== null);
    return at < 0 ? null : at;
  }

  /** Iterations when the user names no number; 0 where no phase repeats. */
  get iterations() {
    const at = this.iteratingPhase;
    return at === null ? 0 : (this.phases[at].repeat ?? 0);
  }

  /**
   * @param {Fields} fields
   * @throws {BundleError} if a field is missing or has another type or range
   */
  static fromFields(fields) {
    const phases = fields.children("phases");
    if (phases.length < 1 || phases.length > MAX_PHASES) {
      throw invalid(`field ${fields.path("phases")} must hold 1 to ${MAX_PHASES} phases`);
    }
    return new Method(
      phases.map((phase) => ({
        graph: phase.plainName("graph"),
        repeat: phase.has("repeat") ? phase.integer("repeat", 1, MAX_ITERATIONS) : null,
      })),
    );
  }
}
