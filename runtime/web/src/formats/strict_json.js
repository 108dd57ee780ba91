// Strict JSON, for untrusted files: no duplicate keys, no NaN, no text that is not Unicode.
//
// `JSON.parse` keeps the last of two equal keys, makes 1e999 infinite and takes 2.0 for 2. Two readers
// in two languages must never see two different documents, so the first two are refused, and the
// third is told apart.

/** @typedef {import("./json.js").Json} Json */

const MAX_DEPTH = 500;
const LONGEST_INTEGER = 20; // digits of 2**63 and a sign, as the other readers have it

/**
 * A number that was written with a point or an exponent and is whole, such as `2.0`: no integer where
 * one is asked for, and written again as it was.
 */
export class WholeFloat extends Number {}

/**
 * Parse one JSON document.
 *
 * @param {Uint8Array} data UTF-8, without a byte order mark
 * @returns {Json} objects without a prototype, so that no key means anything but itself
 * @throws {SyntaxError} whose text completes the sentence "the file ..."
 */
export function parse(data) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw new SyntaxError("is not UTF-8 text");
  }
  return parseText(text);
}

/**
 * As {@link parse}, of a text.
 *
 * @param {string} text
 * @returns {Json}
 */
export function parseText(text) {
  const reader = new Reader(text);
  const document = reader.value(0);
  reader.end();
  return document;
}

/**
 * Canonical JSON, as Python's writer gives it: keys sorted, no white space, ASCII.
 *
 * @param {Json} value
 * @returns {string}
 */
export function canonical(value) {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number" || value instanceof WholeFloat) return numberText(value);
  if (typeof value === "string") return asciiText(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const entries = Object.keys(value).sort(byCodePoints);
  return `{${entries.map((key) => `${asciiText(key)}:${canonical(value[key])}`).join(",")}}`;
}

/**
 * Order of Python's `sorted`, by code points; JavaScript's own is by UTF-16 units.
 *
 * @param {string} first
 * @param {string} second
 */
export function byCodePoints(first, second) {
  const [a, b] = [[...first], [...second]];
  for (let at = 0; at < Math.min(a.length, b.length); at += 1) {
    if (a[at] !== b[at]) return Number(a[at].codePointAt(0)) - Number(b[at].codePointAt(0));
  }
  return a.length - b.length;
}

/**
 * A number as Python writes it: 2.0 where it is a float, 1e-05 where it is small.
 *
 * @param {number | WholeFloat} value
 */
function numberText(value) {
  const number = Number(value);
  if (!Number.isFinite(number)) throw new RangeError("JSON holds no NaN and no infinity");
  const isFloat = value instanceof WholeFloat || !Number.isInteger(number) || Object.is(number, -0);
  if (!isFloat) return String(number);
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [digits, exponent] = number.toExponential().split("e");
    const sign = exponent[0] === "-" ? "-" : "+";
    return `${digits}e${sign}${exponent.slice(1).padStart(2, "0")}`;
  }
  const text = Object.is(number, -0) ? "-0" : String(number);
  return text.includes(".") ? text : `${text}.0`;
}

/** @param {string} text */
function asciiText(text) {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const CONSTANTS = /NaN|-?Infinity/y;
const TEXT = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\n\r]*/y;

class Reader {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  /**
   * @param {number} depth
   * @returns {Json}
   */
  value(depth) {
    if (depth > MAX_DEPTH) throw new SyntaxError("is nested too deeply");
    this.take(SPACE);
    const next = this.text[this.at];
    if (next === "{") return this.object(depth);
    if (next === "[") return this.list(depth);
    if (next === '"') return this.string();
    for (const [word, value] of /** @type {[string, Json][]} */ (WORDS)) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.number();
  }

  end() {
    this.take(SPACE);
    if (this.at < this.text.length) this.fail();
  }

  /**
   * @param {number} depth
   * @returns {{[key: string]: Json}}
   */
  object(depth) {
    const document = Object.create(null);
    this.at += 1;
    if (this.skip("}")) return document;
    do {
      this.take(SPACE);
      const key = this.string();
      if (key in document) throw new SyntaxError(`gives the key ${shown(key, 60)} twice`);
      if (!this.skip(":")) this.fail();
      document[key] = this.value(depth + 1);
    } while (this.skip(","));
    if (!this.skip("}")) this.fail();
    return document;
  }

  /**
   * @param {number} depth
   * @returns {Json[]}
   */
  list(depth) {
    /** @type {Json[]} */
    const values = [];
    this.at += 1;
    if (this.skip("]")) return values;
    do values.push(this.value(depth + 1));
    while (this.skip(","));
    if (!this.skip("]")) this.fail();
    return values;
  }

  string() {
    const text = this.take(TEXT)?.[0];
    if (text === undefined) return this.fail();
    const value = /** @type {string} */ (JSON.parse(text));
    if (/\p{Surrogate}/u.test(value)) throw new SyntaxError("is not UTF-8 text");
    return value;
  }

  number() {
    const constant = this.take(CONSTANTS)?.[0];
    if (constant !== undefined) {
      throw new SyntaxError(`holds ${constant}, which is not a JSON number`);
    }
    const found = this.take(NUMBER);
    if (found === null) return this.fail();
    const [text, fraction, exponent] = found;
    const isFloat = fraction !== undefined || exponent !== undefined;
    const number = Number(text);
    if (!Number.isFinite(number) || (!isFloat && text.length > LONGEST_INTEGER)) {
      throw new SyntaxError(`holds the number ${text.slice(0, 20)}, which is too large`);
    }
    return isFloat && Number.isInteger(number) ? new WholeFloat(number) : number;
  }

  /** @param {string} mark */
  skip(mark) {
    this.take(SPACE);
    if (this.text[this.at] !== mark) return false;
    this.at += 1;
    return true;
  }

  /** @param {RegExp} pattern */
  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found !== null) this.at = pattern.lastIndex;
    return found;
  }

  /** @returns {never} */
  fail() {
    throw new SyntaxError(`is not JSON (at character ${this.at})`);
  }
}

const WORDS = [
  ["null", null],
  ["true", true],
  ["false", false],
];

/**
 * A value as errors show it: short, and with nothing that moves a terminal's cursor.
 *
 * @param {unknown} value
 * @param {number} longest
 * @returns {string}
 */
export function shown(value, longest = 30) {
  if (value === null) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (typeof value === "number" || value instanceof WholeFloat) return numberText(value);
  if (typeof value === "string") return quoted(value, longest);
  if (Array.isArray(value)) {
    const items = value.slice(0, 6).map((item) => shown(item, longest));
    return `[${[...items, ...(value.length > 6 ? ["..."] : [])].join(", ")}]`;
  }
  return `{${Object.keys(Object(value)).slice(0, 4).map((key) => quoted(key, longest)).join(", ")}}`;
}

/**
 * @param {string} text
 * @param {number} longest
 */
function quoted(text, longest) {
  const half = Math.floor((longest - 3) / 2);
  const short = text.length <= longest ? text : `${text.slice(0, half)}...${text.slice(-half)}`;
  const escapes = /[\\'\p{C}]/gu;
  return `'${short.replace(escapes, (mark) => ESCAPES.get(mark) ?? escaped(mark))}'`;
}

const ESCAPES = new Map([["\\", "\\\\"], ["'", "\\'"], ["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"]]);

/** @param {string} mark */
function escaped(mark) {
  const code = Number(mark.codePointAt(0));
  return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}
