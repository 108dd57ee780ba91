// Directions files: named changes of a face, `directions.safetensors` of a bundle (docs/formats.md,
// section 4). What they do to a face is in editing.js.

import { EditError } from "../errors.js";
import { isObject, isPlainName } from "./fields.js";
import { parse } from "./safetensors.js";
import { parseText, shown, WholeFloat } from "./strict_json.js";

/** @typedef {import("./manifest.js").Manifest} Manifest */
/** @typedef {import("./json.js").Json} Json */
/**
 * @typedef {object} LinearDirection A vector [W] or [L,W] that is added to rows of the latents.
 * @property {"linear"} kind
 * @property {string} unit what one step is, for people
 * @property {Float32Array} vector
 * @property {[number, number]} rows
 * @property {number} scale
 */
/**
 * @typedef {object} ComponentDirection A principal component [W] that is brought to a coordinate.
 * @property {"component"} kind
 * @property {string} unit
 * @property {Float32Array} component
 * @property {Float32Array} mean
 * @property {[number, number]} rows
 * @property {number} deviation
 * @property {number} target
 */
/**
 * @typedef {object} StyleDirection A vector [S] that is added to the styles of all layers.
 * @property {"styles"} kind
 * @property {string} unit
 * @property {Float32Array} offsets
 * @property {number} scale
 */
/** @typedef {LinearDirection | ComponentDirection | StyleDirection} Direction */

export const DIRECTIONS_NAME = "directions.safetensors";
const FORMAT = "hyperstyle-rt-directions";
const VERSION = "1";
const ENTRY = "direction."; // of the metadata, before a direction's name

/**
 * Read the content of a directions file.
 *
 * @param {Uint8Array} data
 * @param {Manifest} manifest
 * @returns {Map<string, Direction>} in the order of their names
 * @throws {EditError} if it is damaged, of another version, or does not fit the bundle's shapes
 */
export function parseDirections(data, manifest) {
  let file;
  try {
    file = parse(data);
  } catch (error) {
    throw new EditError(
      `the file ${/** @type {Error} */ (error).message}; convert the directions again`,
    );
  }
  const { tensors, metadata } = file;
  if (metadata.get("format") !== FORMAT || metadata.get("version") !== VERSION) {
    throw new EditError(
      `this is no directions file of version ${VERSION}; convert the directions again, or update ` +
        "hyperstyle-rt",
    );
  }
  const names = [...metadata.keys()].filter((key) => key.startsWith(ENTRY));
  return new Map(
    names
      .map((key) => key.slice(ENTRY.length))
      .sort()
      .map((name) => [name, new Entry(tensors, metadata, name, manifest).read()]),
  );
}

/** One direction of a file that may hold anything. */
class Entry {
  /**
   * @param {Map<string, import("./safetensors.js").Tensor>} tensors
   * @param {Map<string, string>} metadata
   * @param {string} name
   * @param {Manifest} manifest
   */
  constructor(tensors, metadata, name, manifest) {
    this.tensors = tensors;
    this.name = name;
    this.manifest = manifest;
    let facts;
    try {
      facts = parseText(metadata.get(ENTRY + name) ?? "");
    } catch (error) {
      throw this.wrong(/** @type {Error} */ (error).message);
    }
    if (!isObject(facts) || !isPlainName(name)) {
      throw this.wrong("is not described by an object under a plain name");
    }
    this.facts = facts;
  }

  /** @returns {Direction} */
  read() {
    const { kind, unit } = this.facts;
    if (typeof unit !== "string") throw this.wrong("has no unit");
    const { numLatents, latentWidth, optionalInputs, styleChannels } = this.manifest;
    if (kind === "linear") {
      const vector = this.tensor("vector", [latentWidth], [numLatents, latentWidth]);
      return { kind, unit, vector, rows: this.rows(), scale: this.number("scale") };
    }
    if (kind === "component") {
      const component = this.tensor("component", [latentWidth]);
      const mean = this.tensor("mean", [latentWidth]);
      const deviation = this.number("deviation");
      if (deviation <= 0) throw this.wrong("has a deviation that is not positive");
      return { kind, unit, component, mean, deviation, rows: this.rows(), target: this.number("target") };
    }
    if (kind === "styles") {
      if (optionalInputs === null) {
        throw this.wrong("changes styles, which this bundle's generator cannot be fed: build it again");
      }
      const offsets = this.tensor("offsets", [styleChannels]);
      return { kind, unit, offsets, scale: this.number("scale") };
    }
    throw this.wrong(`is of the unknown kind ${shown(kind)}`);
  }

  /**
   * @param {string} part
   * @param {number[][]} shapes
   */
  tensor(part, ...shapes) {
    const tensor = this.tensors.get(`${this.name}.${part}`);
    const fits = shapes.some((shape) => String(shape) === String(tensor?.shape));
    if (tensor === undefined || tensor.dtype !== "float32" || !fits) {
      const wanted = shapes.map((shape) => shown(shape)).join(" or ");
      throw this.wrong(`needs the float32 tensor ${part} of shape ${wanted}`);
    }
    if (!tensor.floats.every(Number.isFinite)) throw this.wrong(`has NaN or infinity in its ${part}`);
    return tensor.floats;
  }

  /** @param {string} key */
  number(key) {
    const value = this.facts[key];
    if (typeof value !== "number" && !(value instanceof WholeFloat)) {
      throw this.wrong(`has no number ${key}`);
    }
    return Number(value);
  }

  /** @returns {[number, number]} */
  rows() {
    const { rows } = this.facts;
    if (!Array.isArray(rows) || rows.length !== 2 || !rows.every(Number.isInteger)) {
      throw this.wrong("has no rows, a pair of integers");
    }
    const [start, stop] = /** @type {number[]} */ (rows);
    const last = this.manifest.numLatents;
    if (!(start >= 0 && start < stop && stop <= last)) {
      throw this.wrong(`must change rows within the ${last} of the latents, not ${shown(rows)}`);
    }
    return [start, stop];
  }

  /** @param {string} problem */
  wrong(problem) {
    return new EditError(`the direction ${shown(this.name)} ${problem}; convert the directions again`);
  }
}
