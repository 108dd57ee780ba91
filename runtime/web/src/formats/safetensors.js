// Small safetensors files in memory: tensors and metadata to bytes and back.
//
// The layout is checked as the safetensors library checks it, and written in its order (wider types
// first, then by name) with Python's header, so that one content has one sequence of bytes.

import { byCodePoints, canonical, parse as parseJson } from "./strict_json.js";

/** @typedef {import("./json.js").Json} Json */
/**
 * @typedef {Float64Array | Float32Array | Uint16Array | BigInt64Array | BigUint64Array | Int32Array
 *   | Uint32Array | Int16Array | Int8Array | Uint8Array} Values
 */

const MAX_HEADER = 100_000_000;

/**
 * Types in the order of the file format, narrow ones first: name in files, name in sentences, array.
 * The bits of float16 are in a Uint16Array.
 *
 * @type {[string, string, {new(buffer: ArrayBuffer): Values, BYTES_PER_ELEMENT: number}][]}
 */
const TYPES = [
  ["BOOL", "bool", Uint8Array],
  ["U8", "uint8", Uint8Array],
  ["I8", "int8", Int8Array],
  ["I16", "int16", Int16Array],
  ["U16", "uint16", Uint16Array],
  ["F16", "float16", Uint16Array],
  ["I32", "int32", Int32Array],
  ["U32", "uint32", Uint32Array],
  ["F32", "float32", Float32Array],
  ["F64", "float64", Float64Array],
  ["I64", "int64", BigInt64Array],
  ["U64", "uint64", BigUint64Array],
];
const OTHER_TYPES = new Map([["BF16", 2], ["F8_E5M2", 1], ["F8_E4M3", 1], ["F8_E8M0", 1], ["C64", 8]]);

/** An array with its type and shape. */
export class Tensor {
  /**
   * @param {string} dtype as numpy names it
   * @param {number[]} shape
   * @param {Values} values in C order; of float16 the bits
   */
  constructor(dtype, shape, values) {
    this.dtype = dtype;
    this.shape = shape;
    this.values = values;
  }

  /**
   * @param {number[]} shape
   * @param {Float32Array} values
   */
  static float32(shape, values) {
    return new Tensor("float32", shape, values);
  }

  /** The numbers of a float32 tensor. */
  get floats() {
    return /** @type {Float32Array} */ (this.values);
  }

  /** The bits of a float16 tensor. */
  get halves() {
    return /** @type {Uint16Array} */ (this.values);
  }
}

/**
 * Parse a whole safetensors file.
 *
 * @param {Uint8Array} data
 * @returns {{tensors: Map<string, Tensor>, metadata: Map<string, string>}}
 * @throws {SyntaxError} whose text completes the sentence "the file ..."
 */
export function parse(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.length < 8) throw wrong("it is too short");
  const length = view.getBigUint64(0, true);
  if (length > MAX_HEADER || Number(length) > data.length - 8) throw wrong("its header is cut short");
  const start = 8 + Number(length);
  const header = readHeader(data.subarray(8, start));
  const metadata = readMetadata(header.__metadata__ ?? null);
  const entries = Object.keys(header)
    .filter((name) => name !== "__metadata__")
    .map((name) => ({ name, ...readEntry(header[name]) }));
  entries.sort((one, other) => one.begin - other.begin || one.end - other.end);
  let at = 0;
  const tensors = new Map();
  for (const { name, dtype, shape, begin, end } of entries) {
    if (begin !== at || end < begin) throw wrong("its tensors overlap or leave gaps");
    at = end;
    if (start + end > data.length) throw wrong("it is cut short");
    tensors.set(name, readTensor(dtype, shape, data.slice(start + begin, start + end)));
  }
  if (start + at !== data.length) throw wrong("it has bytes that belong to nothing");
  return { tensors, metadata };
}

/**
 * Make a whole safetensors file.
 *
 * @param {Map<string, Tensor>} tensors
 * @param {Map<string, string>} metadata
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function serialize(tensors, metadata) {
  const names = [...tensors.keys()].sort((one, other) => {
    const widths = [other, one].map((name) => typeOf(tensors.get(name)?.dtype ?? ""));
    return widths[0] - widths[1] || byCodePoints(one, other);
  });
  /** @type {{[key: string]: Json}} */
  const header = { __metadata__: Object.fromEntries(metadata) };
  let size = 0;
  for (const name of names) {
    const { dtype, shape, values } = /** @type {Tensor} */ (tensors.get(name));
    const end = size + values.byteLength;
    header[name] = { dtype: TYPES[typeOf(dtype)][0], shape, data_offsets: [size, end] };
    size = end;
  }
  const text = canonical(header);
  const padded = text.length + (-text.length & 7); // tensors start at a multiple of 8
  const file = new Uint8Array(8 + padded + size);
  new DataView(file.buffer).setBigUint64(0, BigInt(padded), true);
  file.set(new TextEncoder().encode(text.padEnd(padded)), 8);
  let at = 8 + padded;
  for (const name of names) {
    const { values } = /** @type {Tensor} */ (tensors.get(name));
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return file;
}

/** @param {string} dtype Its place among {@link TYPES}. */
function typeOf(dtype) {
  return TYPES.findIndex(([, name]) => name === dtype);
}

/**
 * @param {Uint8Array} data
 * @returns {{[key: string]: Json}}
 */
function readHeader(data) {
  let header;
  try {
    header = parseJson(data);
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    if (message.startsWith("gives the key")) throw error;
    throw wrong(`its header ${message}`);
  }
  if (data[0] !== 0x7b || typeof header !== "object" || header === null || Array.isArray(header)) {
    throw wrong("its header is no object");
  }
  return /** @type {{[key: string]: Json}} */ (header);
}

/** @param {Json} value */
function readMetadata(value) {
  if (value === null) return new Map();
  const entries = typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : null;
  if (entries === null || !entries.every(([, text]) => typeof text === "string")) {
    throw wrong("its metadata are no texts");
  }
  return new Map(/** @type {[string, string][]} */ (entries));
}

/**
 * @param {Json} entry
 * @returns {{dtype: string, shape: number[], begin: number, end: number}}
 */
function readEntry(entry) {
  const { dtype, shape, data_offsets: offsets } = /** @type {any} */ (entry ?? {});
  const isList = (/** @type {unknown} */ list) =>
    Array.isArray(list) && list.every((n) => Number.isInteger(n) && n >= 0);
  if (typeof dtype !== "string" || !isList(shape) || !isList(offsets) || offsets.length !== 2) {
    throw wrong("a tensor is not described");
  }
  if (TYPES.every(([name]) => name !== dtype) && !OTHER_TYPES.has(dtype)) {
    throw wrong("a tensor is of an unknown type");
  }
  return { dtype, shape, begin: offsets[0], end: offsets[1] };
}

/**
 * @param {string} dtype
 * @param {number[]} shape
 * @param {Uint8Array<ArrayBuffer>} content
 */
function readTensor(dtype, shape, content) {
  const known = TYPES.find(([name]) => name === dtype);
  const width = known ? known[2].BYTES_PER_ELEMENT : Number(OTHER_TYPES.get(dtype));
  // Exact below 2**53, and above that never equal to a length in memory.
  const size = shape.reduce((product, length) => product * length, width);
  if (size !== content.length) throw wrong("a tensor has another size than its shape says");
  if (!known || shape.some((length) => length > Number.MAX_SAFE_INTEGER)) {
    throw new SyntaxError("holds a tensor of a type or shape that is not read here");
  }
  return new Tensor(known[1], shape, new known[2](content.buffer));
}

/** @param {string} why */
function wrong(why) {
  return new SyntaxError(`is not a safetensors file (${why})`);
}
