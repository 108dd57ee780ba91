// Whether a bundle can render an inversion here: spaces, shapes, and what it needs.

import { InversionError } from "../errors.js";
import { shown } from "./strict_json.js";

/** @typedef {import("./inversion_file.js").InversionData} InversionData */
/** @typedef {import("./manifest.js").Manifest} Manifest */

const RENDERED = ["codes", "channel_offsets", "noise"];

/**
 * Refuse an inversion that a bundle cannot render.
 *
 * @param {InversionData} data
 * @param {Manifest} manifest of the bundle; an adapted one renders the inversions of its base
 * @throws {InversionError} if it belongs to another generator, has another shape, or needs what the
 *   bundle or this package does not render
 */
export function checkFits(data, manifest) {
  checkSpaces(data, manifest);
  for (const name of data.needed.keys()) {
    if (!RENDERED.includes(name)) {
      throw new InversionError(
        `the inversion needs ${name}, which browsers do not render; render it with hyperstyle-rt edit`,
      );
    }
  }
  if (data.needed.has("noise") && manifest.optionalInputs === null) {
    throw new InversionError(
      `the inversion of bundle ${shown(data.bundleName)} needs noise, and bundle ` +
        `${shown(manifest.name)} has no graph for it; render it with its own bundle`,
    );
  }
  for (const [name, shape] of shapesOf(manifest)) {
    const tensor = name === "latents" ? data.latents : data.needed.get(name);
    if (tensor !== undefined && String(tensor.shape) !== String(shape)) {
      throw new InversionError(
        `the inversion of bundle ${shown(data.bundleName)} has ${name} of shape ` +
          `${shown(tensor.shape)} where bundle ${shown(manifest.name)} has ${shown(shape)}, so it is ` +
          "damaged; invert the picture again",
      );
    }
  }
}

/**
 * @param {Manifest} manifest
 * @returns {[string, number[]][]}
 */
function shapesOf(manifest) {
  const noise = (manifest.optionalInputs?.noise ?? []).reduce((sum, { side }) => sum + side * side, 0);
  return [
    ["latents", [manifest.numLatents, manifest.latentWidth]],
    ["codes", [manifest.tunedLayers.length, manifest.codes?.width ?? 0]],
    ["channel_offsets", [manifest.numChannelOffsets]],
    ["noise", [noise]],
  ];
}

/**
 * @param {InversionData} data
 * @param {Manifest} manifest
 */
function checkSpaces(data, manifest) {
  const made = `the inversion was made with bundle ${shown(data.bundleName)}`;
  if (data.space !== manifest.inversionSpace) {
    throw new InversionError(
      `${made} (space ${data.space.slice(0, 12)}) and does not fit bundle ${shown(manifest.name)} ` +
        `(space ${manifest.inversionSpace.slice(0, 12)}); open it with its own bundle, or invert the ` +
        "picture with this one",
    );
  }
  if (data.codeSpace !== null && data.codeSpace !== manifest.codes?.space) {
    throw new InversionError(
      `${made} and needs codes (code space ${data.codeSpace.slice(0, 12)}) that bundle ` +
        `${shown(manifest.name)} does not know; name a bundle that was built from the same hypernetwork`,
    );
  }
}
