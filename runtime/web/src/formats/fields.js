// Typed access to the fields of a manifest that may hold anything.

import { BundleError } from "../errors.js";
import { shown, WholeFloat } from "./strict_json.js";

/** @typedef {import("./json.js").Json} Json */

export const MAX_INTEGER = 2 ** 53 - 1; // what every JSON reader holds exactly
export const PLAIN_NAME = "a plain name of at most 100 letters, digits, '_', '-', '+', '.'";

/** @param {unknown} value Whether it may name a file of a bundle, a bundle, a layer, a role or a method. */
export function isPlainName(value) {
  return typeof value === "string" && /^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}$/.test(value);
}

/** @param {unknown} value Whether it is a SHA-256 digest as manifests and inversion files write it. */
export function isSha256(value) {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

/** @param {string} problem It completes the sentence "the manifest ...". */
export function invalid(problem) {
  return new BundleError(`the manifest ${problem}; restore the bundle or build it again`);
}

/** The fields of one JSON object; every error names the field by its whole path. */
export class Fields {
  /**
   * @param {Json} value
   * @param {string} where
   */
  constructor(value, where = "") {
    if (!isObject(value)) {
      const place = where ? `field ${where}` : "file";
      throw invalid(`${place} must hold an object, not ${shown(value)}`);
    }
    /** @type {{[key: string]: Json}} */
    this.document = value;
    this.where = where;
  }

  /** @param {string} key */
  has(key) {
    return key in this.document;
  }

  /** @param {string} key */
  value(key) {
    if (!this.has(key)) throw invalid(`lacks the field ${this.path(key)}`);
    return this.document[key];
  }

  /** The keys, all of which must be plain names. */
  plainKeys() {
    for (const key of Object.keys(this.document)) {
      if (!isPlainName(key)) {
        throw invalid(`field ${this.where} has the key ${shown(key)}, not ${PLAIN_NAME}`);
      }
    }
    return Object.keys(this.document);
  }

  /** @param {string} key */
  text(key) {
    const value = this.value(key);
    if (typeof value !== "string" || value === "") throw this.wrong(key, "a text that is not empty");
    return value;
  }

  /** @param {string} key */
  plainName(key) {
    const value = this.value(key);
    if (!isPlainName(value)) throw this.wrong(key, PLAIN_NAME);
    return /** @type {string} */ (value);
  }

  /** @param {string} key */
  plainNames(key) {
    const value = this.value(key);
    if (!Array.isArray(value) || !value.every(isPlainName)) {
      throw this.wrong(key, "a list of plain names");
    }
    if (new Set(value).size < value.length) {
      throw this.wrong(key, "a list that gives every name once");
    }
    return /** @type {string[]} */ (value);
  }

  /** @param {string} key */
  sha256(key) {
    const value = this.value(key);
    if (!isSha256(value)) throw this.wrong(key, "64 lower-case hexadecimal digits");
    return /** @type {string} */ (value);
  }

  /**
   * @param {string} key
   * @param {number} low
   * @param {number} high
   */
  integer(key, low, high) {
    const value = this.value(key);
    if (!isInteger(value, low, high)) throw this.wrong(key, `an integer from ${low} to ${high}`);
    return /** @type {number} */ (value);
  }

  /**
   * @param {string} key
   * @param {number} count
   * @param {number} low
   * @param {number} high
   */
  integers(key, count, low, high) {
    const value = this.value(key);
    if (!Array.isArray(value) || value.length !== count) {
      throw this.wrong(key, `a list of ${count} integers`);
    }
    if (!value.every((item) => isInteger(item, low, high))) {
      throw this.wrong(key, `${count} integers from ${low} to ${high}`);
    }
    return /** @type {number[]} */ (value);
  }

  /**
   * @param {string} key
   * @param {number} low
   * @param {number} high
   * @returns {[number, number]}
   */
  pair(key, low, high) {
    const [first, second] = this.integers(key, 2, low, high);
    return [first, second];
  }

  /** @param {string} key */
  child(key) {
    return new Fields(this.value(key), this.path(key));
  }

  /** @param {string} key */
  children(key) {
    const value = this.value(key);
    if (!Array.isArray(value)) throw this.wrong(key, "a list");
    return value.map((item, at) => new Fields(item, `${this.path(key)}[${at}]`));
  }

  /** @param {string} key */
  path(key) {
    return this.where ? `${this.where}.${key}` : key;
  }

  /**
   * @param {string} key
   * @param {string} wanted
   */
  wrong(key, wanted) {
    return invalid(`field ${this.path(key)} must be ${wanted}, not ${shown(this.document[key])}`);
  }
}

/**
 * The object `name` of `fields`, read; null if it is absent.
 *
 * @template T
 * @param {Fields} fields
 * @param {string} name
 * @param {(fields: Fields) => T} read
 * @returns {T | null}
 */
export function optional(fields, name, read) {
  return fields.has(name) ? read(fields.child(name)) : null;
}

/**
 * An object of plain names whose values are objects of one kind.
 *
 * @template T
 * @param {Fields} table
 * @param {(fields: Fields) => T} read
 * @returns {Map<string, T>}
 */
export function byName(table, read) {
  return new Map(table.plainKeys().map((key) => [key, read(table.child(key))]));
}

/**
 * @param {Json} value
 * @returns {value is {[key: string]: Json}}
 */
export function isObject(value) {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof WholeFloat)
  );
}

/**
 * @param {Json} value
 * @param {number} low
 * @param {number} high
 */
function isInteger(value, low, high) {
  return typeof value === "number" && Number.isInteger(value) && value >= low && value <= high;
}
