// Inversion files: what one inversion found, in safetensors (docs/formats.md, section 3).
//
// A file that was read and is written again has the same bytes, and one that is made here is read by
// Python, C and the command line.

import { InversionError } from "../errors.js";
import { isObject, isPlainName, isSha256 } from "./fields.js";
import { areFinite } from "./halves.js";
import { parse, serialize, Tensor } from "./safetensors.js";
import { canonical, parseText, shown } from "./strict_json.js";

/** @typedef {import("./json.js").Json} Json */

export const FORMAT = "hyperstyle-rt-inversion";
export const VERSION = "3";
/** What a file may need of its reader, beside latents. */
export const NEEDS = ["codes", "channel_offsets", "noise", "weights", "features"];
/** What is stored in float16, and its number of axes. */
const HALVES = new Map([["channel_offsets", 1], ["noise", 1], ["weights", 1], ["features", 3]]);
const COMPUTED = ["backend", "provider", "precision"];
export const MAX_FILE_SIZE = 2 ** 27;
const MAX_LATENTS = 4096;
const MAX_METADATA = 2 ** 16; // characters of one entry

/**
 * @typedef {object} InversionFields What an inversion file holds, by the names of docs/formats.md.
 * @property {Tensor} latents float32 [L,W]
 * @property {Map<string, Tensor>} needed what it needs, by name: codes float32 [M,K+1], the others halves
 * @property {Tensor | null} transform float32 [3,3], from pixels of the photo to pixels of a rendering
 * @property {number} iterations
 * @property {string} space
 * @property {string | null} codeSpace
 * @property {string} bundleName
 * @property {string} bundleDigest
 * @property {string} method
 * @property {{[key: string]: Json}} settings
 * @property {{[key: string]: Json}} computed
 * @property {string | null} picture SHA-256 of the picture's file
 */

/** What one inversion found; checked. */
export class InversionData {
  /**
   * @param {InversionFields} fields
   * @throws {InversionError} if one of them is not what docs/formats.md asks for
   */
  constructor(fields) {
    this.latents = fields.latents;
    this.needed = fields.needed;
    this.transform = fields.transform;
    this.iterations = fields.iterations;
    this.space = fields.space;
    this.codeSpace = fields.codeSpace;
    this.bundleName = fields.bundleName;
    this.bundleDigest = fields.bundleDigest;
    this.method = fields.method;
    this.settings = fields.settings;
    this.computed = fields.computed;
    this.picture = fields.picture;
    checkTensors(this);
    checkIdentities(this);
    checkProvenance(this);
  }

  /** Codes, float32 [M,K+1]; null for the generator's own kernels. */
  get codes() {
    return this.needed.get("codes") ?? null;
  }

  /** The content of a file; the same data gives the same bytes, in Python, too. */
  toBytes() {
    const metadata = new Map([
      ["format", FORMAT],
      ["version", VERSION],
      ["space", this.space],
      ["needs", canonical(NEEDS.filter((name) => this.needed.has(name)))],
      ["num_latents", String(this.latents.shape[0])],
      ["bundle", this.bundleName],
      ["bundle_digest", this.bundleDigest],
      ["method", this.method],
      ["settings", canonical(this.settings)],
      ["iterations", String(this.iterations)],
      ["computed", canonical(this.computed)],
    ]);
    if (this.codeSpace !== null) metadata.set("code_space", this.codeSpace);
    if (this.picture !== null) metadata.set("picture", this.picture);
    const w = onlyRow(this.latents);
    const tensors = new Map(this.needed);
    if (w === null) tensors.set("latents", this.latents);
    else tensors.set("w", w);
    if (this.transform !== null) tensors.set("transform", this.transform);
    return serialize(tensors, metadata);
  }

  /**
   * Read the content of a file; no bundle is needed for it.
   *
   * @param {Uint8Array} content
   * @throws {InversionError} if it is damaged, or needs what this version does not know
   */
  static parse(content) {
    if (content.length > MAX_FILE_SIZE) {
      throw new InversionError("the file is too large for an inversion file; give another one");
    }
    let file;
    try {
      file = parse(content);
    } catch (error) {
      const { message } = /** @type {Error} */ (error);
      throw new InversionError(`the file ${message}; invert the picture again`);
    }
    return read(file.tensors, file.metadata);
  }
}

/**
 * @param {Map<string, Tensor>} tensors
 * @param {Map<string, string>} metadata
 */
function read(tensors, metadata) {
  if (metadata.get("format") !== FORMAT) {
    throw new InversionError("this is not an inversion file; give one that `invert` wrote");
  }
  const version = entry(metadata, "version");
  if (version !== VERSION) {
    throw new InversionError(
      `the file has format version ${shown(version)} and this runtime reads version ${VERSION}; ` +
        "update hyperstyle-rt or invert the picture again",
    );
  }
  const needs = readNeeds(metadata);
  const needed = new Map();
  for (const name of NEEDS) {
    const tensor = tensors.get(name);
    if ((tensor !== undefined) !== needs.includes(name)) {
      throw damaged(`does not agree in needs and tensors about ${name}`);
    }
    if (tensor !== undefined) needed.set(name, tensor);
  }
  return new InversionData({
    latents: readLatents(tensors, count(metadata, "num_latents")),
    needed,
    transform: tensors.get("transform") ?? null,
    iterations: count(metadata, "iterations"),
    space: entry(metadata, "space"),
    codeSpace: needed.has("codes") ? entry(metadata, "code_space") : null,
    bundleName: entry(metadata, "bundle"),
    bundleDigest: entry(metadata, "bundle_digest"),
    method: entry(metadata, "method"),
    settings: readObject(metadata, "settings"),
    computed: readObject(metadata, "computed"),
    picture: metadata.get("picture") ?? null,
  });
}

/**
 * The only row of latents that are all the same, bit by bit; null where they differ.
 *
 * @param {Tensor} latents
 */
function onlyRow({ shape, floats }) {
  const width = shape[1];
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  for (let at = width; at < bits.length; at += 1) {
    if (bits[at] !== bits[at - width]) return null;
  }
  return Tensor.float32([width], floats.slice(0, width));
}

/**
 * Latents [L,W], as stored or repeated from one row.
 *
 * @param {Map<string, Tensor>} tensors
 * @param {number} rows
 */
function readLatents(tensors, rows) {
  const [w, latents] = [tensors.get("w"), tensors.get("latents")];
  if (latents !== undefined && w === undefined) {
    if (latents.shape[0] !== rows) throw damaged(`does not hold the ${rows} rows of latents that it counts`);
    return latents;
  }
  if (w === undefined || latents !== undefined) throw damaged("must hold either w or latents");
  checkFloats("w", w, [null]);
  if (rows < 1 || rows > MAX_LATENTS || rows * w.values.byteLength > MAX_FILE_SIZE) {
    throw damaged(`counts ${rows} rows of latents`);
  }
  const repeated = new Float32Array(rows * w.floats.length);
  for (let row = 0; row < rows; row += 1) repeated.set(w.floats, row * w.floats.length);
  return Tensor.float32([rows, w.floats.length], repeated);
}

/** @param {Map<string, string>} metadata */
function readNeeds(metadata) {
  const needs = readJson(metadata, "needs");
  if (!Array.isArray(needs) || !needs.every((name) => typeof name === "string")) {
    throw damaged("has needs that are no list of texts");
  }
  for (const name of needs) {
    if (!NEEDS.includes(/** @type {string} */ (name))) {
      throw new InversionError(
        `the file needs ${shown(name)}, which this version of hyperstyle-rt does not know; update ` +
          "hyperstyle-rt",
      );
    }
  }
  if (new Set(needs).size < needs.length) throw damaged("lists a need twice");
  return needs;
}

/**
 * @param {Map<string, string>} metadata
 * @param {string} key
 */
function readObject(metadata, key) {
  const value = readJson(metadata, key);
  if (!isObject(value)) throw damaged(`has ${key} that are no JSON object`);
  return value;
}

/**
 * @param {Map<string, string>} metadata
 * @param {string} key
 */
function readJson(metadata, key) {
  const text = entry(metadata, key);
  if (text.length > MAX_METADATA) throw damaged(`has ${key} of more than ${MAX_METADATA} characters`);
  try {
    return parseText(text);
  } catch (error) {
    throw damaged(`has ${key} that ${/** @type {Error} */ (error).message}`);
  }
}

/**
 * @param {Map<string, string>} metadata
 * @param {string} key
 */
function count(metadata, key) {
  const text = entry(metadata, key);
  if (!/^(?:0|[1-9][0-9]{0,5})$/.test(text)) {
    throw damaged(`has ${shown(text)} as its ${key}, not a number from 0 to 999999`);
  }
  return Number(text);
}

/**
 * @param {Map<string, string>} metadata
 * @param {string} key
 */
function entry(metadata, key) {
  const text = metadata.get(key);
  if (text === undefined) throw damaged(`lacks the metadata entry ${key}`);
  return text;
}

/** @param {InversionData} data */
function checkTensors(data) {
  checkFloats("latents", data.latents, [null, null]);
  if (data.latents.shape[0] > MAX_LATENTS) {
    throw wrong(`has ${data.latents.shape[0]} rows of latents, more than ${MAX_LATENTS}`);
  }
  for (const [name, tensor] of data.needed) {
    const axes = HALVES.get(name);
    if (axes === undefined) checkFloats(name, tensor, [null, null]);
    else checkFloats(name, tensor, Array(axes).fill(null), "float16");
  }
  if (data.transform !== null) checkFloats("transform", data.transform, [3, 3]);
}

/** @param {InversionData} data */
function checkIdentities({ space, bundleDigest, bundleName, method, codeSpace, codes, picture }) {
  if (!isSha256(space)) throw wrong("has no SHA-256 as its space");
  if (!isSha256(bundleDigest)) throw wrong("has no SHA-256 as its bundle_digest");
  if (!isPlainName(bundleName)) throw wrong("does not name the bundle it was made with");
  if (!isPlainName(method)) throw wrong("does not name the method it was made with");
  if ((codeSpace === null) !== (codes === null)) {
    throw wrong("must have both codes and their code_space, or neither");
  }
  if (codeSpace !== null && !isSha256(codeSpace)) throw wrong("has no SHA-256 as its code_space");
  if (picture !== null && !isSha256(picture)) throw wrong("has no SHA-256 as its picture");
}

/** @param {InversionData} data */
function checkProvenance({ iterations, settings, computed }) {
  if (!Number.isInteger(iterations) || iterations < 0 || iterations > 999_999) {
    throw new InversionError(`an inversion cannot have ${iterations} iterations`);
  }
  for (const [name, value] of Object.entries({ settings, computed })) {
    if (canonical(value).length > MAX_METADATA) {
      throw wrong(`has ${name} that are no object of at most ${MAX_METADATA} characters`);
    }
  }
  if (!COMPUTED.every((key) => typeof computed[key] === "string")) {
    throw wrong(`does not say all of ${COMPUTED.join(", ")} as texts in its computed`);
  }
}

/**
 * Refuse all but finite floats of this type and shape; null stands for a length from 1 up.
 *
 * @param {string} name
 * @param {Tensor} tensor
 * @param {(number | null)[]} shape
 * @param {string} dtype
 */
function checkFloats(name, tensor, shape, dtype = "float32") {
  const fits =
    tensor.shape.length === shape.length &&
    shape.every((want, axis) => (want === null ? tensor.shape[axis] > 0 : tensor.shape[axis] === want));
  if (tensor.dtype !== dtype || !fits) {
    throw new InversionError(
      `the inversion's ${name} must be ${dtype} [${shape.map((n) => n ?? "?").join(", ")}], not ` +
        `${tensor.dtype} ${shown(tensor.shape)}; invert the picture again`,
    );
  }
  const finite = dtype === "float16" ? areFinite(tensor.halves) : tensor.floats.every(Number.isFinite);
  if (!finite) {
    throw new InversionError(`NaN or infinity in the inversion's ${name}; invert the picture again`);
  }
}

/** @param {string} problem */
function wrong(problem) {
  return new InversionError(`the inversion ${problem}; invert the picture again`);
}

/** @param {string} problem */
function damaged(problem) {
  return new InversionError(`the file is damaged, it ${problem}; invert the picture again`);
}
