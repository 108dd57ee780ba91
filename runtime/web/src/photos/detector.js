// The detector of faces at several scales, on the whole photo and in tiles of it.

import { cut } from "../imaging/pictures.js";
import { resizeByArea, resizeLinear } from "../imaging/sampling.js";
import { overlap } from "./boxes.js";
import { rint } from "./points.js";

/** @typedef {import("../imaging/pictures.js").Picture} Picture */
/** @typedef {import("./face_models.js").FaceModels} FaceModels */
/** @typedef {import("./points.js").Point} Point */
/**
 * @typedef {object} Detection
 * @property {number} score 0 to 1
 * @property {import("./boxes.js").Box} box
 * @property {Point[]} keypoints six; the first two are the eyes
 */
/** @typedef {{score: number, values: number[]}} Raw values [16]: box, six key points */

// How the detector looks: the longer side of the photo, and how much of it is added as a black frame on
// every side, without which faces that fill the photo go unseen.
const LOOKS = [[96, 0.5], [384, 0], [768, 0]];
const STRIDE = 4; // of its grid
const MULTIPLE = 32; // of which its input's sides must be multiples
const LEAST_SCORE = 0.5;
const SAME_FACE = 0.3;
// Where all faces are wanted, it looks again in tiles of the photo, at half of its resolution and at
// every further half above the looks at the whole.
const TILE = 768;
const TILE_OVERLAP = 128;

/**
 * The faces that show in the photo as a whole.
 *
 * @param {Picture} photo
 * @param {FaceModels} models
 */
export async function detectWhole(photo, models) {
  const longer = Math.max(photo.width, photo.height);
  const found = [];
  for (const [side, frame] of LOOKS) {
    if (frame === 0 && side > 1.5 * longer) continue;
    found.push(...(await detections(photo, side, rint(side * frame), models)));
  }
  return merged(found);
}

/**
 * Small faces.
 *
 * @param {Picture} photo
 * @param {FaceModels} models
 */
export async function detectInTiles(photo, models) {
  const longer = Math.max(photo.width, photo.height);
  const found = [];
  for (let side = longer / 2; side > TILE; side /= 2) {
    const [width, height] = [photo.width, photo.height].map((length) =>
      Math.max(1, rint(length * (side / longer))),
    );
    const level = resizeByArea(photo, [width, height]);
    const stretch = [photo.width / width, photo.height / height];
    for (const top of tileStarts(height)) {
      for (const left of tileStarts(width)) {
        const [right, bottom] = [Math.min(left + TILE, width), Math.min(top + TILE, height)];
        const tile = cut(level, left, top, right, bottom);
        for (const { score, values } of await detections(tile, Math.max(tile.width, tile.height), 0, models)) {
          if (!liesInside(values, [left, top], [width, height])) continue;
          const moved = values.map(
            (value, at) => (value + [left, top][at % 2] + 0.5) * stretch[at % 2] - 0.5,
          );
          found.push({ score, values: moved });
        }
      }
    }
  }
  return merged(found);
}

/**
 * Make one of all detections of a face: the surest first.
 *
 * @param {Raw[]} found
 * @returns {Detection[]}
 */
function merged(found) {
  let left = [...found];
  const faces = [];
  while (left.length > 0) {
    const best = left.reduce((one, other) => (other.score > one.score ? other : one));
    const isSame = (/** @type {Raw} */ each) =>
      each === best || overlap(boxOf(best.values), boxOf(each.values)) >= SAME_FACE;
    const same = left.filter(isSame);
    left = left.filter((each) => !isSame(each));
    const weight = same.reduce((sum, { score }) => sum + score, 0);
    const values = best.values.map(
      (_, at) => same.reduce((sum, each) => sum + each.score * each.values[at], 0) / weight,
    );
    const keypoints = [4, 6, 8, 10, 12, 14].map(
      (at) => /** @type {Point} */ ([values[at], values[at + 1]]),
    );
    faces.push({ score: best.score, box: boxOf(values), keypoints });
  }
  return faces;
}

/**
 * @param {number[]} values
 * @returns {import("./boxes.js").Box}
 */
function boxOf([left, top, right, bottom]) {
  return [left, top, right, bottom];
}

/** @param {number} length Where tiles begin that cover a side, evenly spread, each overlapping the next. */
function tileStarts(length) {
  const count = Math.max(1, Math.ceil((length - TILE_OVERLAP) / (TILE - TILE_OVERLAP)));
  if (count === 1) return [0];
  return Array.from({ length: count }, (_, at) => rint((at * (length - TILE)) / (count - 1)));
}

/**
 * Whether a box ends before its tile does, except where the photo ends there too.
 *
 * @param {number[]} values
 * @param {number[]} start
 * @param {number[]} size
 */
function liesInside(values, start, size) {
  return [0, 1].every(
    (axis) =>
      (values[axis] > 0 || start[axis] === 0) &&
      (values[axis + 2] < TILE - 1 || start[axis] + TILE >= size[axis]),
  );
}

/**
 * Detections at one scale: the photo is scaled to a longer side of `side` and framed by `frame` pixels.
 *
 * @param {Picture} photo
 * @param {number} side
 * @param {number} frame
 * @param {FaceModels} models
 * @returns {Promise<Raw[]>} in pixels of the photo
 */
async function detections(photo, side, frame, models) {
  const scale = side / Math.max(photo.width, photo.height);
  const [width, height] = [photo.width, photo.height].map((length) => Math.max(1, rint(length * scale)));
  const resize = scale < 1 ? resizeByArea : resizeLinear;
  const small = resize(photo, [width, height]);
  const canvas = framed(small, frame);
  const { boxes, scores } = await models.run("face_detector.onnx", canvas, 2, -1);
  const columns = canvas.width / STRIDE;
  const stretch = [photo.width / width, photo.height / height];
  const found = [];
  for (let cell = 0; cell < scores.length; cell += 1) {
    const score = 1 / (1 + Math.exp(-scores[cell]));
    if (score < LEAST_SCORE) continue;
    const anchor = [cell % columns, Math.floor(cell / columns)].map(
      (place) => place * STRIDE + STRIDE / 2 - frame,
    );
    const raw = boxes.subarray(16 * cell, 16 * cell + 16); // centre, size, key points
    const values = Array.from(raw, (value, at) => {
      const axis = at % 2;
      const centre = raw[axis] + anchor[axis];
      if (at < 4) return centre + ((at < 2 ? -1 : 1) * raw[2 + axis]) / 2;
      return value + anchor[axis];
    });
    found.push({ score, values: values.map((value, at) => value * stretch[at % 2] - 0.5) });
  }
  return found;
}

/**
 * A picture on black, of sides that the detector takes.
 *
 * @param {Picture} picture
 * @param {number} frame
 * @returns {Picture}
 */
function framed({ width: inner, height: rows, data }, frame) {
  const [width, height] = [inner, rows].map(
    (length) => Math.ceil((length + 2 * frame) / MULTIPLE) * MULTIPLE,
  );
  const canvas = new Uint8ClampedArray(3 * width * height);
  for (let row = 0; row < rows; row += 1) {
    const line = data.subarray(3 * row * inner, 3 * (row + 1) * inner);
    canvas.set(line, 3 * ((row + frame) * width + frame));
  }
  return { width, height, data: canvas };
}
