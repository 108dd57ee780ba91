// Conditions between the fields of a manifest.

import { invalid } from "./fields.js";
import { shown } from "./strict_json.js";

/** @typedef {import("./manifest.js").Manifest} Manifest */

/**
 * Refuse a manifest whose fields contradict each other.
 *
 * @param {Manifest} manifest
 * @throws {BundleError} for the first contradiction
 */
export function checkManifest(manifest) {
  checkGeometry(manifest);
  checkTunedLayers(manifest);
  checkGraphs(manifest);
  checkMethods(manifest);
  checkOptionalInputs(manifest);
  checkDescent(manifest);
}

/** @param {Manifest} manifest */
function checkGeometry({ resolution, cropRows, imageSize }) {
  const [top, bottom] = cropRows ?? [0, resolution];
  if (!(top < bottom && bottom <= resolution)) {
    throw invalid(
      `field crop_rows must lie within the ${resolution} rows of the image, not [${top}, ${bottom}]`,
    );
  }
  if (imageSize[0] !== bottom - top || imageSize[1] !== resolution) {
    throw invalid(
      `field image_size must be [${bottom - top}, ${resolution}], as resolution and crop_rows say, ` +
        `not ${shown(imageSize)}`,
    );
  }
}

/** @param {Manifest} manifest */
function checkTunedLayers({ tunedLayers, codes }) {
  const indices = tunedLayers.map(({ index }) => index);
  if (indices.some((index, at) => at > 0 && index <= indices[at - 1])) {
    throw invalid(`field tuned_layers must have ascending indices, not ${shown(indices)}`);
  }
  if (new Set(tunedLayers.map(({ name }) => name)).size < tunedLayers.length) {
    throw invalid("field tuned_layers gives two layers one name");
  }
  for (const { name, shape } of tunedLayers) {
    if (shape[2] !== shape[3]) {
      throw invalid(
        `field tuned_layers gives ${name} the kernel ${shown(shape.slice(2))}, which is not square`,
      );
    }
  }
  if (codes !== null && tunedLayers.length === 0) {
    throw invalid("field codes is given although tuned_layers is empty");
  }
}

/** @param {Manifest} manifest */
function checkGraphs({ graphs, precisions, tunedLayers, files }) {
  if (!graphs.has("generator")) throw invalid("lacks the field graphs.generator");
  if ((tunedLayers.length > 0) !== graphs.has("weights")) {
    throw invalid("must give both tuned_layers and the graph weights, or neither");
  }
  const tables = new Map([["graphs", graphs]]);
  for (const [precision, table] of precisions) tables.set(`precisions.${precision}`, table);
  for (const [where, table] of tables) {
    for (const [role, { file, data }] of table) {
      if (!graphs.has(role)) throw invalid(`field ${where}.${role} is not among the graphs`);
      for (const name of [file, ...data]) {
        if (!files.has(name)) {
          throw invalid(
            `field ${where}.${role} names ${shown(name)}, which is not among the files`,
          );
        }
      }
    }
  }
}

/** @param {Manifest} manifest */
function checkMethods({ methods, graphs, defaultMethod, then, base }) {
  for (const [name, { phases }] of methods) {
    phases.forEach(({ graph }, at) => {
      if (!graphs.has(graph)) {
        throw invalid(
          `field methods.${name}.phases[${at}].graph names ${shown(graph)}, which is not among the ` +
            "graphs",
        );
      }
    });
  }
  if (methods.size > 0 && defaultMethod === null) throw invalid("lacks the field default_method");
  if (defaultMethod !== null && !methods.has(defaultMethod)) {
    throw invalid(
      `field default_method names ${shown(defaultMethod)}, which is not among the methods`,
    );
  }
  if (then !== null && (defaultMethod === null || !graphs.has("features"))) {
    throw invalid("must give the field then with a default method and the graph features");
  }
  if (base !== null && methods.size > 0) throw invalid("must not give both the field base and methods");
}

/** @param {Manifest} manifest */
function checkOptionalInputs({ optionalInputs, graphs }) {
  if ((optionalInputs === null) === graphs.has("styled_generator")) {
    throw invalid(
      "must give both the field optional_inputs and the graph styled_generator, or neither",
    );
  }
  const hasNoise = (optionalInputs?.noise.length ?? 0) > 0;
  if (hasNoise !== graphs.has("noise")) {
    throw invalid("must give both noise among the optional_inputs and the graph noise, or neither");
  }
}

/** @param {Manifest} manifest */
function checkDescent({ graphs, given, optionalInputs }) {
  if (given.has("fit") && !(given.has("then") && given.has("objective"))) {
    throw invalid("must give the field fit with the fields then and objective");
  }
  const found = ["parametric_generator", "parameters"].filter((role) => graphs.has(role)).length;
  if (found !== (given.has("parametric_inputs") ? 2 : 0)) {
    throw invalid(
      "must give the field parametric_inputs and the graphs parametric_generator and parameters, or " +
        "none of them",
    );
  }
  if (given.has("parametric_inputs") && optionalInputs === null) {
    throw invalid("must not give the field parametric_inputs without optional_inputs");
  }
}
