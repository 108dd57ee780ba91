// The manifest of an engine bundle, typed and checked: docs/formats.md, section 2.
//
// What a browser does not use (plans, what descent needs) is not read, only whether it is there.

import { BundleError } from "../errors.js";
import { byName, Fields, invalid, MAX_INTEGER, optional } from "./fields.js";
import { checkManifest } from "./manifest_checks.js";
import { Method } from "./methods.js";
import { parse, shown } from "./strict_json.js";

/**
 * @typedef {object} TunedLayer A convolution whose kernel is tuned per picture.
 * @property {number} index
 * @property {string} name its kernel is the graph tensor `weight.<name>`
 * @property {[number, number, number, number]} shape (O, I, k, k)
 */
/** @typedef {{width: number, space: string}} CodeLayout K+1, and what expands codes to kernels */
/** @typedef {{file: string, data: string[]}} GraphFile */
/** @typedef {{sha256: string, size: number, stored: string}} BundleFile */
/** @typedef {{name: string, space: string}} BaseBundle */
/** @typedef {{name: string, side: number}} NoiseLayer */
/** @typedef {{styles: {name: string, width: number}[], noise: NoiseLayer[]}} OptionalInputs */

export const FORMAT = "hyperstyle-rt-bundle";
export const VERSION = 2;

const MAX_SIDE = 4096;
const MAX_WIDTH = 65536;
const MAX_LATENTS = 4096;
const MAX_CHANNELS = 65536;

export class Manifest {
  /**
   * Read the content of a `manifest.json`.
   *
   * @param {Uint8Array} data
   * @throws {BundleError} if it is not strict JSON, a field is missing or has another type or range,
   *   or fields contradict each other
   */
  static parse(data) {
    let document;
    try {
      document = parse(data);
    } catch (error) {
      throw invalid(/** @type {Error} */ (error).message);
    }
    return new Manifest(new Fields(document));
  }

  /** @param {Fields} fields */
  constructor(fields) {
    checkVersion(fields);
    /** Names of the fields that are there. */
    this.given = new Set(Object.keys(fields.document));
    this.name = fields.plainName("name");
    this.domain = fields.text("domain");
    this.license = fields.text("license");
    const provenance = fields.child("provenance");
    for (const key of Object.keys(provenance.document)) provenance.text(key);
    this.space = fields.sha256("space");
    this.resolution = fields.integer("resolution", 1, MAX_SIDE);
    /** (height, width) of a rendering after the crop. */
    this.imageSize = fields.pair("image_size", 1, MAX_SIDE);
    /** (height, width) of the reconstruction that networks look at. */
    this.inputSize = fields.pair("input_size", 1, MAX_SIDE);
    this.cropRows = fields.value("crop_rows") === null ? null : fields.pair("crop_rows", 0, MAX_SIDE);
    this.numLatents = fields.integer("num_latents", 1, MAX_LATENTS);
    this.latentWidth = fields.integer("latent_width", 1, MAX_WIDTH);
    this.codes = optional(fields, "codes", codeLayout);
    this.tunedLayers = fields.children("tuned_layers").map(tunedLayer);
    this.graphs = byName(fields.child("graphs"), graphFile);
    const files = fields.child("files");
    this.files = byName(files, bundleFile);
    fields.child("accuracy");
    if (fields.has("training")) fields.child("training");
    this.methods = byName(fields.child("methods"), Method.fromFields);
    this.defaultMethod = fields.has("default_method") ? fields.plainName("default_method") : null;
    this.then = fields.has("then") ? fields.plainName("then") : null;
    this.base = optional(fields, "base", baseBundle);
    this.precisions =
      optional(fields, "precisions", (table) => byName(table, (graphs) => byName(graphs, graphFile))) ??
      new Map();
    this.optionalInputs = optional(fields, "optional_inputs", optionalInputs);
    checkManifest(this);
  }

  /** The `files` table as {@link Bundle} digests it. */
  filesToJson() {
    return Object.fromEntries(
      [...this.files].map(([name, { sha256, size, stored }]) => [name, { sha256, bytes: size, stored }]),
    );
  }

  /** P: pairs of output and input channels of all tuned layers together. */
  get numChannelOffsets() {
    return this.tunedLayers.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0);
  }

  /** The space of the inversions this bundle renders: its own, or that of its base. */
  get inversionSpace() {
    return this.base === null ? this.space : this.base.space;
  }

  /** S: styles of all layers together; 0 for a generator that takes none. */
  get styleChannels() {
    return (this.optionalInputs?.styles ?? []).reduce((sum, { width }) => sum + width, 0);
  }

  /**
   * A method by its name.
   *
   * @param {string | null} name null for the bundle's default
   * @throws {BundleError} if there is no such method, or this bundle only renders
   */
  method(name = null) {
    if (this.base !== null) {
      throw new BundleError(
        `bundle ${shown(this.name)} only renders what bundle ${shown(this.base.name)} has inverted; ` +
          "invert with that one",
      );
    }
    const chosen = this.methods.get(name ?? this.defaultMethod ?? "");
    if (chosen === undefined) {
      const wanted = name === null ? "no method" : `no method ${shown(name)}`;
      const names = [...this.methods.keys()].join(", ");
      const offered = names ? `, only ${names}` : ": it only renders";
      throw new BundleError(
        `bundle ${shown(this.name)} has ${wanted}${offered}; name one that it has, or another bundle`,
      );
    }
    return chosen;
  }
}

/**
 * Refuse other formats first: in another version every other field may differ.
 *
 * @param {Fields} fields
 */
function checkVersion(fields) {
  if (fields.value("format") !== FORMAT) {
    const value = shown(fields.value("format"));
    throw invalid(`field format must be '${FORMAT}', not ${value}: this is no engine bundle`);
  }
  const version = fields.integer("version", 1, MAX_INTEGER);
  if (version !== VERSION) {
    throw new BundleError(
      `the bundle has format version ${version} and this runtime reads version ${VERSION}; ` +
        "update hyperstyle-rt or build the bundle again with this version",
    );
  }
}

/** @param {Fields} fields @returns {CodeLayout} */
function codeLayout(fields) {
  return { width: fields.integer("width", 2, MAX_WIDTH), space: fields.sha256("space") };
}

/** @param {Fields} fields @returns {TunedLayer} */
function tunedLayer(fields) {
  const [outputs, inputs, height, width] = fields.integers("shape", 4, 1, MAX_WIDTH);
  return {
    index: fields.integer("index", 0, MAX_WIDTH),
    name: fields.plainName("name"),
    shape: [outputs, inputs, height, width],
  };
}

/** @param {Fields} fields @returns {GraphFile} */
function graphFile(fields) {
  for (const name of ["macs", "bytes_moved"]) {
    if (fields.has(name)) fields.integer(name, 0, MAX_INTEGER);
  }
  return { file: fields.plainName("file"), data: fields.plainNames("data") };
}

/** @param {Fields} fields @returns {BundleFile} */
function bundleFile(fields) {
  return {
    sha256: fields.sha256("sha256"),
    size: fields.integer("bytes", 0, MAX_INTEGER),
    stored: fields.plainName("stored"),
  };
}

/** @param {Fields} fields @returns {BaseBundle} */
function baseBundle(fields) {
  return { name: fields.plainName("name"), space: fields.sha256("space") };
}

/** @param {Fields} fields @returns {OptionalInputs} */
function optionalInputs(fields) {
  return {
    styles: fields.children("styles").map((layer) => ({
      name: layer.plainName("name"),
      width: layer.integer("width", 1, MAX_CHANNELS),
    })),
    noise: fields.children("noise").map((layer) => ({
      name: layer.plainName("name"),
      side: layer.integer("side", 1, MAX_SIDE),
    })),
  };
}
