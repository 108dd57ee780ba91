// Faces in photos, as `photos/faces.py` of the Python runtime finds them.
//
// A detector (BlazeFace, full range) proposes faces at several scales. On each, a face mesh of 468
// points finds the mouth and, roughly, the eyes, and a network for one eye finds the eyes' contours.

import { cut, turned } from "../imaging/pictures.js";
import { resizeByArea, warpAffine } from "../imaging/sampling.js";
import { areOfOneFace, area, overlap } from "./boxes.js";
import { detectInTiles, detectWhole } from "./detector.js";
import { bounds, inverse, lengthOf, mapped, mean, minus, times } from "./points.js";

/** @typedef {import("../imaging/pictures.js").Picture} Picture */
/** @typedef {import("./detector.js").Detection} Detection */
/** @typedef {import("./face_models.js").FaceModels} FaceModels */
/** @typedef {import("./points.js").Matrix} Matrix */
/** @typedef {import("./points.js").Point} Point */
/**
 * @typedef {object} Face A face of a photo.
 * @property {number} score of the detector, 0 to 1
 * @property {import("./boxes.js").Box} box left, top, right, bottom in pixels of the photo
 * @property {Point[]} points left eye, right eye, left and right corner of the mouth, as seen
 */

const SAME_FACE = 0.3; // intersection over union

// Mesh: side of its input, and the part of a face around its box that it wants to see. It looks again
// around the points it has found, at least once and until the face stands upright.
const MESH_SIDE = 192;
const MESH_SCALE = 1.5;
const MESH_ROUNDS = 5;
const UPRIGHT = Math.cos((5 / 180) * Math.PI);
const MOUTH_CORNERS = [61, 291]; // its vertices; left and right as seen, here and below
const EYE_CORNERS = [[33, 133], [362, 263]];

// Eye: side of its input, and its width in eyes. Its points where dlib has 36 to 41.
const EYE_SIDE = 64;
const EYE_SCALE = 2.3;
const EYE_CONTOUR = [0, 11, 13, 8, 5, 3];
// The mesh counts pixels from the centre of the first one, the eye's network from its edge.
const EYE_ORIGIN = 0.5;

/**
 * Find the faces of a photo, the largest first. Where none is upright (within about 45 degrees), the
 * photo is looked at from the other sides.
 *
 * @param {Picture} photo
 * @param {FaceModels} models
 * @param {boolean} alsoSmall whether to look for the small faces of a group, too, which is much more
 *   work; where no other is found, they are looked for in any case
 * @returns {Promise<Face[]>}
 */
export async function findFaces(photo, models, alsoSmall) {
  for (const quarterTurns of [0, 1, 3, 2]) {
    const seen = turned(photo, quarterTurns);
    let faces = await findProminent(seen, models);
    if (faces.length === 0) continue;
    if (alsoSmall) faces = await addSmall(seen, faces, models);
    return faces.map((face) => turnedBack(face, photo, quarterTurns));
  }
  return await addSmall(photo, [], models);
}

/**
 * @param {Picture} photo
 * @param {FaceModels} models
 */
async function findProminent(photo, models) {
  const faces = [];
  for (const detection of await detectWhole(photo, models)) {
    const face = await locate(photo, detection, models);
    if (face !== null) faces.push(face);
  }
  faces.sort((one, other) => other.score - one.score);
  /** @type {Face[]} */
  const kept = [];
  for (const face of faces) {
    // Two boxes may have led to one face.
    if (kept.every(({ box }) => overlap(face.box, box) < SAME_FACE)) kept.push(face);
  }
  return largestFirst(kept);
}

/**
 * Add the faces that only show in tiles of the photo; those found before stay as they are.
 *
 * @param {Picture} photo
 * @param {Face[]} faces
 * @param {FaceModels} models
 */
async function addSmall(photo, faces, models) {
  const kept = [...faces];
  for (const detection of await detectInTiles(photo, models)) {
    if (kept.some(({ box }) => areOfOneFace(detection.box, box))) continue;
    const face = await locate(photo, detection, models);
    if (face !== null && !kept.some(({ box }) => areOfOneFace(face.box, box))) kept.push(face);
  }
  return largestFirst(kept);
}

/** @param {Face[]} faces */
function largestFirst(faces) {
  return faces.sort((one, other) => area(other.box) - area(one.box));
}

/**
 * Undo a turn for a face found in a turned photo.
 *
 * @param {Face} face
 * @param {Picture} photo not turned
 * @param {number} quarterTurns
 * @returns {Face}
 */
function turnedBack({ score, box, points }, { width, height }, quarterTurns) {
  const back = (/** @type {Point} */ [x, y]) => {
    /** @type {Point[]} */
    const places = [[x, y], [width - 1 - y, x], [width - 1 - x, height - 1 - y], [y, height - 1 - x]];
    return places[quarterTurns];
  };
  const [low, high] = bounds([back([box[0], box[1]]), back([box[2], box[3]])]);
  return { score, box: [...low, ...high], points: points.map(back) };
}

/**
 * Find the points of a detected face; null if the mesh sees no face there.
 *
 * @param {Picture} photo
 * @param {Detection} detection
 * @param {FaceModels} models
 * @returns {Promise<Face | null>}
 */
async function locate(photo, { score, box, keypoints }, models) {
  let centre = mean([[box[0], box[1]], [box[2], box[3]]]);
  let side = Math.max(box[2] - box[0], box[3] - box[1]);
  let axis = await bestAxis(photo, centre, side, minus(keypoints[1], keypoints[0]), models);
  /** @type {Point[]} */
  let points = [];
  for (let look = 1; look <= MESH_ROUNDS; look += 1) {
    const before = times(axis, 1 / lengthOf(axis));
    const mesh = await meshOf(photo, centre, side, axis, models);
    if (mesh.presence < 0) return null; // a logit: rather no face than a face
    points = mesh.points;
    const [left, right] = EYE_CORNERS.map((corners) => mean(corners.map((at) => points[at])));
    axis = minus(right, left);
    const turn = rotation(axis);
    const [low, high] = bounds(points.map((point) => mapped(turn, point)));
    centre = mapped(inverse(turn), mean([low, high]));
    side = Math.max(high[0] - low[0], high[1] - low[1]);
    if (look > 1 && axis[0] * before[0] + axis[1] * before[1] > UPRIGHT * lengthOf(axis)) break;
  }
  const eyes = [];
  for (const [at, corners] of EYE_CORNERS.entries()) {
    eyes.push(await eyeOf(photo, corners.map((corner) => points[corner]), at === 1, models));
  }
  const [low, high] = bounds(points);
  return { score, box: [...low, ...high], points: [...eyes, ...MOUTH_CORNERS.map((at) => points[at])] };
}

/**
 * The direction from eye to eye, among the four that the detector's key points leave open.
 *
 * @param {Picture} photo
 * @param {Point} centre
 * @param {number} side
 * @param {Point} across from eye to eye, if the face is not upside down
 * @param {FaceModels} models
 */
async function bestAxis(photo, centre, side, across, models) {
  const down = /** @type {Point} */ ([-across[1], across[0]]);
  let [best, surest] = [across, -Infinity];
  for (const axis of [across, down, times(across, -1), times(down, -1)]) {
    const { presence } = await meshOf(photo, centre, side, axis, models);
    if (presence > surest) [best, surest] = [axis, presence];
  }
  return best;
}

/**
 * The mesh of a face of that size and direction, 468 points, and how sure it is of one (logit).
 *
 * @param {Picture} photo
 * @param {Point} centre
 * @param {number} side
 * @param {Point} axis
 * @param {FaceModels} models
 */
async function meshOf(photo, centre, side, axis, models) {
  const { crop, toPhoto } = cutOut(photo, centre, side * MESH_SCALE, axis, MESH_SIDE);
  const { points, presence } = await models.run("face_mesh.onnx", crop);
  return { points: pointsOf(points).map((point) => mapped(toPhoto, point)), presence: presence[0] };
}

/**
 * Centre of an eye's contour, as dlib's landmarks give it. The network knows left eyes; a right one is
 * shown to it in the mirror.
 *
 * @param {Picture} photo
 * @param {Point[]} corners from left to right, roughly
 * @param {boolean} isRight
 * @param {FaceModels} models
 */
async function eyeOf(photo, corners, isRight, models) {
  const axis = minus(corners[1], corners[0]);
  const { crop, toPhoto } = cutOut(photo, mean(corners), lengthOf(axis) * EYE_SCALE, axis, EYE_SIDE);
  const { points } = await models.run("eye_contour.onnx", isRight ? mirrored(crop) : crop);
  const found = pointsOf(points);
  const [x, y] = mean(EYE_CONTOUR.map((at) => found[at])).map((value) => value - EYE_ORIGIN);
  return mapped(toPhoto, [isRight ? EYE_SIDE - 1 - x : x, y]);
}

/** @param {Float32Array} values [N,3]: x, y, depth */
function pointsOf(values) {
  return Array.from(
    { length: values.length / 3 },
    (_, at) => /** @type {Point} */ ([values[3 * at], values[3 * at + 1]]),
  );
}

/** @param {Picture} picture @returns {Picture} */
function mirrored({ width, height, data }) {
  const flipped = data.map((_, at) => {
    const pixel = Math.floor(at / 3);
    const row = pixel - (pixel % width);
    return data[3 * (row + width - 1 - (pixel % width)) + (at % 3)];
  });
  return { width, height, data: flipped };
}

/**
 * Cut a square out of the photo, its upper edge along `axis`, black outside the photo.
 *
 * @param {Picture} photo
 * @param {Point} centre
 * @param {number} side
 * @param {Point} axis
 * @param {number} pixels side of the crop
 * @returns {{crop: Picture, toPhoto: Matrix}} the map is from pixels of the crop to pixels of the photo
 */
function cutOut(photo, centre, side, axis, pixels) {
  const [[c, s]] = rotation(axis);
  const scale = side / pixels;
  const middle = (pixels - 1) / 2;
  const toPhoto = [[c * scale, -s * scale, 0], [s * scale, c * scale, 0]];
  const offset = minus(centre, mapped(toPhoto, [middle, middle]));
  toPhoto.forEach((row, at) => (row[2] = offset[at]));
  const reach = side * 0.75; // half the diagonal, and a little
  const size = [photo.width, photo.height];
  const low = centre.map((value) => Math.max(Math.floor(value - reach), 0));
  const high = centre.map((value, at) => Math.min(Math.ceil(value + reach), size[at]));
  if (high[0] <= low[0] || high[1] <= low[1]) {
    const data = new Uint8ClampedArray(3 * pixels * pixels);
    return { crop: { width: pixels, height: pixels, data }, toPhoto };
  }
  let part = cut(photo, low[0], low[1], high[0], high[1]);
  let shrink = [1, 1];
  if (side >= 2 * pixels) {
    // Else bilinear sampling would skip pixels.
    const smaller = [part.width, part.height].map((length) =>
      Math.max(Math.floor((length * pixels) / Math.floor(side)), 1),
    );
    shrink = [part.width / smaller[0], part.height / smaller[1]];
    part = resizeByArea(part, [smaller[0], smaller[1]]);
  }
  const toPart = toPhoto.map((row, at) => {
    const [a, b, shift] = row;
    // Shrinking keeps edges of pixels, not centres.
    return [a / shrink[at], b / shrink[at], (shift - low[at]) / shrink[at] + 0.5 / shrink[at] - 0.5];
  });
  return { crop: warpAffine(part, toPart, pixels), toPhoto };
}

/** @param {Point} axis The map that turns it to the right. */
function rotation(axis) {
  const [x, y] = times(axis, 1 / lengthOf(axis));
  return [[x, y, 0], [-y, x, 0]];
}

