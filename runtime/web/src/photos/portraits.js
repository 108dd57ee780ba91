// What is inverted of a picture: all of it, or a face, cut out and aligned as the networks were trained.

import { HyperStyleError, PictureError } from "../errors.js";
import { shown } from "../formats/strict_json.js";
import { align, quadrilateral } from "./alignment.js";
import { findFaces } from "./faces.js";
import { lengthOf, minus, scaled } from "./points.js";

/** @typedef {import("../formats/manifest.js").Manifest} Manifest */
/** @typedef {import("../imaging/pictures.js").Picture} Picture */
/** @typedef {import("./face_models.js").FaceModels} FaceModels */
/** @typedef {import("./faces.js").Face} Face */
/** @typedef {import("./points.js").Matrix} Matrix */
/**
 * @typedef {object} Crop What is inverted of a picture.
 * @property {Picture} picture
 * @property {Matrix | null} transform [3,3], from pixels of the photo to pixels of a rendering; null
 *   where the picture was taken as it is
 */

/** Side of the crops that the official models were trained and tested with. */
const CROP_SIDE = 1024;
const ALIGNED = 0.1; // of the side: how far an aligned crop's corners may lie off
const ALIGN = ["auto", "always", "never"];
const DOMAINS_OF_FACES = ["face", "faces", "ffhq"];

/**
 * Decide what to invert of a picture.
 *
 * @param {Picture} picture upright
 * @param {Manifest} manifest
 * @param {FaceModels} models
 * @param {{align?: string, face?: string}} options align: `auto`, where the bundle is for faces and the
 *   picture is not aligned already; `always`; `never`. face: `largest`, or a number from 0, the largest
 * @returns {Promise<{crop: Crop, notice: string | null}>} with a sentence for the user where no face was
 *   found and the picture is taken as it is
 * @throws {PictureError} if there is no face where one is wanted, or not the one that was chosen
 * @throws {HyperStyleError} if there is no such way to align
 */
export async function cropOf(picture, manifest, models, { align: when = "auto", face = "largest" } = {}) {
  if (!ALIGN.includes(when)) {
    throw new HyperStyleError(`align must be ${ALIGN.join(", ")}, not ${shown(when)}`);
  }
  const whole = { picture, transform: null };
  const domain = manifest.domain.toLowerCase().split(/\s+/);
  const looks = when === "always" || (when === "auto" && DOMAINS_OF_FACES.some((n) => domain.includes(n)));
  if (!looks) return { crop: whole, notice: null };
  const isLargest = face === "largest" || face === "0";
  const faces = await findFaces(picture, models, !isLargest);
  if (faces.length === 0) {
    if (when === "auto") {
      return {
        crop: whole,
        notice: "no face was found, so the picture is used as it is, as an aligned crop",
      };
    }
    throw new PictureError(
      "no face was found; try a photo with a larger, upright face that is not turned away, or, if the " +
        "picture is an aligned crop already, use it as it is (alignment never)",
    );
  }
  const chosen = chooseFace(faces, face);
  if (when === "auto" && chosen === faces[0] && isAligned(picture, chosen)) {
    return { crop: whole, notice: null };
  }
  const { crop, transform } = align(picture, quadrilateral(chosen.points), CROP_SIDE);
  const factor = manifest.resolution / CROP_SIDE;
  return { crop: { picture: crop, transform: scaled(transform, factor) }, notice: null };
}

/**
 * @param {Face[]} faces the largest first
 * @param {string} which
 * @throws {PictureError} if it is no such name, or a number the photo has no face for
 */
export function chooseFace(faces, which) {
  const text = which === "largest" ? "0" : which;
  if (!/^[0-9]+$/.test(text)) {
    throw new PictureError(
      `the face must be largest or a number from 0 (the largest), not ${shown(which)}`,
    );
  }
  const face = faces[Number(text)];
  if (face === undefined) {
    const count = `${faces.length} face${faces.length === 1 ? "" : "s"}`;
    throw new PictureError(
      `there is no face ${which} in the photo, which has ${count}; numbers count from 0`,
    );
  }
  return face;
}

/**
 * Whether the picture is about the square that aligning would cut out of it.
 *
 * @param {Picture} picture
 * @param {Face} face
 */
function isAligned({ width, height }, face) {
  if (width !== height) return false;
  const corners = [[0, 0], [0, width], [width, width], [width, 0]];
  const quad = quadrilateral(face.points);
  const off = quad.reduce(
    (sum, corner, at) => sum + lengthOf(minus(corner, [corners[at][0] - 0.5, corners[at][1] - 0.5])),
    0,
  );
  return off / 4 < ALIGNED * width;
}
