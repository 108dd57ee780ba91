// Edits along named directions, and what lies between two faces (docs/spec.md, section 6).

import { EditError } from "./errors.js";
import { shown } from "./formats/strict_json.js";

/** @typedef {import("./formats/directions_file.js").Direction} Direction */
/** @typedef {import("./formats/directions_file.js").ComponentDirection} ComponentDirection */
/** @typedef {{[direction: string]: number}} Amounts how many steps along each direction */

/**
 * Apply edits to a face. Every direction starts from the unedited latents, so their order does not
 * matter.
 *
 * @param {Map<string, Direction>} directions those there are
 * @param {Float32Array} latents [L,W]
 * @param {number} width W
 * @param {Amounts} amounts
 * @returns {{latents: Float32Array, styles: Float32Array | null}} styles [S] are added to those of all
 *   layers; null where no edit changes styles
 * @throws {EditError} if a direction is unknown, or an amount is not a finite number
 */
export function editLatents(directions, latents, width, amounts) {
  const edited = latents.slice();
  /** @type {Float32Array | null} */
  let styles = null;
  for (const [name, amount] of Object.entries(amounts)) {
    const direction = directions.get(name);
    if (direction === undefined) {
      const names = [...directions.keys()].join(", ") || "none: convert some for it";
      throw new EditError(`the bundle has no direction ${shown(name)}; its directions are ${names}`);
    }
    if (!Number.isFinite(amount)) {
      throw new EditError(`the amount of ${name} must be a finite number, not ${amount}`);
    }
    if (direction.kind === "styles") {
      styles ??= new Float32Array(direction.offsets.length);
      add(styles, direction.offsets, direction.scale * amount, 0);
      continue;
    }
    const vector = direction.kind === "linear" ? direction.vector : direction.component;
    const factor =
      direction.kind === "linear" ? amount * direction.scale : distanceOf(direction, latents, amount);
    for (let row = direction.rows[0]; row < direction.rows[1]; row += 1) {
      const own = vector.length === width ? vector : vector.subarray(row * width, (row + 1) * width);
      add(edited, own, factor, row * width);
    }
  }
  return { latents: edited, styles };
}

/**
 * How far a face is moved along a principal component.
 *
 * @param {ComponentDirection} direction
 * @param {Float32Array} latents
 * @param {number} amount
 */
function distanceOf({ component, mean, deviation, target }, latents, amount) {
  const along = component.reduce(
    (sum, weight, at) => sum + Math.fround(latents[at] - mean[at]) * weight,
    0,
  );
  return amount * (target - along / deviation) * deviation;
}

/**
 * @param {Float32Array} values changed from `start` on
 * @param {Float32Array} vector
 * @param {number} factor
 * @param {number} start
 */
function add(values, vector, factor, start) {
  const single = Math.fround(factor);
  vector.forEach((value, at) => {
    values[start + at] += Math.fround(single * value);
  });
}

/**
 * Between two arrays of one shape in a straight line; null is zero, and null where both are.
 *
 * @param {Float32Array | null} first
 * @param {Float32Array | null} second
 * @param {number} fraction 0 gives the first, 1 the second
 * @returns {Float32Array | null}
 */
export function between(first, second, fraction) {
  const known = first ?? second;
  if (known === null) return null;
  const [here, there] = [Math.fround(1 - fraction), Math.fround(fraction)];
  return known.map(
    (_, at) => Math.fround(here * (first?.[at] ?? 0)) + Math.fround(there * (second?.[at] ?? 0)),
  );
}
