// The FFHQ alignment: a photo and a face's points to the crop that the networks know.
//
// Computed as the published recipe does with Pillow and SciPy (docs/spec.md, section 7), for the same
// bytes: shrink, crop with a border, pad by reflection with blurred edges, then the QUAD transform.

import { checkSize, cut } from "../imaging/pictures.js";
import { LANCZOS, resize } from "../imaging/resampling.js";
import { bounds, inverse, lengthOf, minus, plus, quarterTurn, rint, times } from "./points.js";

/** @typedef {import("../imaging/pictures.js").Picture} Picture */
/** @typedef {import("./points.js").Point} Point */
/** @typedef {import("./points.js").Matrix} Matrix */
/** @typedef {[Point, Point, Point, Point]} Quad upper left, lower left, lower right, upper right */

const BORDER = 0.1; // kept around the quadrilateral, in its sides, and at least this many pixels:
const LEAST_BORDER = 3;
const PADDING = 0.3; // on every side once one needs padding
const BLUR = 0.02; // standard deviation of the blur of what was padded
const BLUR_REACH = 4; // standard deviations at which SciPy cuts a Gaussian

/**
 * The square of the photo that becomes the crop.
 *
 * @param {Point[]} points centres of the left and the right eye, left and right corner of the mouth,
 *   as the viewer sees them
 * @returns {Quad}
 */
export function quadrilateral([leftEye, rightEye, leftMouth, rightMouth]) {
  const eyes = times(plus(leftEye, rightEye), 0.5);
  const eyeToEye = minus(rightEye, leftEye);
  const eyeToMouth = minus(times(plus(leftMouth, rightMouth), 0.5), eyes);
  const along = minus(eyeToEye, quarterTurn(eyeToMouth));
  const size = lengthOf(along);
  const reach = Math.max(lengthOf(eyeToEye) * 2, lengthOf(eyeToMouth) * 1.8);
  const x = /** @type {Point} */ ([(along[0] / size) * reach, (along[1] / size) * reach]);
  const y = quarterTurn(x);
  const centre = plus(eyes, times(eyeToMouth, 0.1));
  return [
    minus(minus(centre, x), y),
    plus(minus(centre, x), y),
    plus(plus(centre, x), y),
    minus(plus(centre, x), y),
  ];
}

/**
 * Cut the square out of the photo.
 *
 * @param {Picture} photo
 * @param {Quad} quad it may stick out of the photo
 * @param {number} side of the crop; 1024 in the official recipe
 * @returns {{crop: Picture, transform: Matrix}} the transform [3,3] is from pixels of the photo to
 *   pixels of the crop
 * @throws {PictureError} if the square is so much larger than the photo that the padded one would be
 *   too large
 */
export function align(photo, quad, side) {
  const { height, width } = photo;
  let quadSide = sideOf(quad);
  const shrink = Math.floor((quadSide / side) * 0.5);
  if (shrink > 1) {
    photo = resize(photo, [rint(height / shrink), rint(width / shrink)], LANCZOS);
    quad = moved(quad, ([x, y]) => [x / shrink, y / shrink]);
    quadSide /= shrink;
  }
  const stretch = [width / photo.width, height / photo.height];

  const cropped = croppedTo(photo, quad, borderOf(quadSide));
  quad = moved(quad, (point) => minus(point, cropped.corner));
  const { picture, added } = padded(cropped.picture, quad, quadSide);
  quad = moved(quad, (point) => plus(point, added));
  const crop = sampled(picture, quad, side);

  // Crop to photo: the crop's pixels lie at half steps along the sides of the quadrilateral.
  const across = times(minus(quad[3], quad[0]), 1 / side);
  const down = times(minus(quad[1], quad[0]), 1 / side);
  const first = minus(plus(plus(quad[0], times(plus(across, down), 0.5)), cropped.corner), added);
  const toPhoto = stretch.map((factor, axis) => [
    across[axis] * factor,
    down[axis] * factor,
    first[axis] * factor + (factor - 1) / 2, // shrinking keeps edges of pixels, not centres
  ]);
  return { crop, transform: inverse(toPhoto) };
}

/**
 * How far the recipe pads a photo: (left, top) and (right, bottom), in pixels.
 *
 * @param {Point} size width and height of the photo
 * @param {Quad} quad
 * @param {number} quadSide
 * @returns {{before: Point, after: Point}}
 */
export function padding(size, quad, quadSide) {
  const border = borderOf(quadSide);
  const [low, high] = wholeBounds(quad);
  const before = low.map((value) => Math.max(border - value, 0));
  const after = high.map((value, axis) => Math.max(value - size[axis] + border, 0));
  if (Math.max(...before, ...after) <= border - 4) return { before: [0, 0], after: [0, 0] };
  const least = rint(quadSide * PADDING);
  const atLeast = (/** @type {number[]} */ [x, y]) =>
    /** @type {Point} */ ([Math.max(x, least), Math.max(y, least)]);
  return { before: atLeast(before), after: atLeast(after) };
}

/**
 * @param {Quad} quad
 * @param {(point: Point) => Point} move
 */
function moved(quad, move) {
  return /** @type {Quad} */ (quad.map(move));
}

/** @param {Quad} quad */
function sideOf(quad) {
  return lengthOf(minus(quad[3], quad[0]));
}

/** @param {number} quadSide */
function borderOf(quadSide) {
  return Math.max(rint(quadSide * BORDER), LEAST_BORDER);
}

/** @param {Quad} quad Whole pixels that enclose it. */
function wholeBounds(quad) {
  const [low, high] = bounds(quad);
  return [low.map(Math.floor), high.map(Math.ceil)];
}

/**
 * The part around the quadrilateral, and its upper left pixel in the photo.
 *
 * @param {Picture} photo
 * @param {Quad} quad
 * @param {number} border
 * @returns {{picture: Picture, corner: Point}}
 */
function croppedTo(photo, quad, border) {
  const size = [photo.width, photo.height];
  const [low, high] = wholeBounds(quad);
  const [left, top] = low.map((value) => Math.max(value - border, 0));
  const [right, bottom] = high.map((value, axis) => Math.min(value + border, size[axis]));
  const isAll = right - left >= size[0] && bottom - top >= size[1];
  if (isAll || right <= left || bottom <= top) return { picture: photo, corner: [0, 0] };
  return { picture: cut(photo, left, top, right, bottom), corner: [left, top] };
}

/**
 * Pad where the quadrilateral sticks out; gives the pixels added at the left and at the top.
 *
 * @param {Picture} photo
 * @param {Quad} quad
 * @param {number} quadSide
 * @returns {{picture: Picture, added: Point}}
 */
function padded(photo, quad, quadSide) {
  const { before, after } = padding([photo.width, photo.height], quad, quadSide);
  if (before[0] === 0 && before[1] === 0) return { picture: photo, added: before };
  const [width, height] = [0, 1].map(
    (axis) => [photo.width, photo.height][axis] + before[axis] + after[axis],
  );
  checkSize(height, width, "the padded photo");
  const values = reflected(photo, before, [width, height]);
  const depth = depths([width, height], before, after);
  const blurred = blur(values, width, height, quadSide * BLUR, (pixel) => depth[pixel] * 3 + 1 > 0);
  blend(values, (at) => blurred[at], (pixel) => clip(Math.fround(Math.fround(depth[pixel] * 3) + 1)));
  const medians = [0, 1, 2].map((channel) => median(values, channel));
  blend(values, (at) => medians[at % 3], (pixel) => clip(depth[pixel]));
  const data = new Uint8ClampedArray(values.length);
  for (let at = 0; at < data.length; at += 1) data[at] = rint(values[at]);
  return { picture: { height, width, data }, added: before };
}

/**
 * The photo with its mirror images around it, float32 [H,W,3].
 *
 * @param {Picture} photo
 * @param {Point} before
 * @param {number[]} size width and height
 */
function reflected(photo, before, [width, height]) {
  const values = new Float32Array(3 * width * height);
  const columns = Array.from({ length: width }, (_, x) => mirrored(x - before[0], photo.width));
  for (let y = 0; y < height; y += 1) {
    const row = mirrored(y - before[1], photo.height) * photo.width;
    for (let x = 0; x < width; x += 1) {
      const [from, to] = [3 * (row + columns[x]), 3 * (y * width + x)];
      for (let channel = 0; channel < 3; channel += 1) values[to + channel] = photo.data[from + channel];
    }
  }
  return values;
}

/**
 * Place of a pixel beyond the edges, mirrored about the centres of the outer pixels, as often as needed.
 *
 * @param {number} place
 * @param {number} length
 */
function mirrored(place, length) {
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const within = ((place % period) + period) % period;
  return within < length ? within : period - within;
}

/**
 * 1 at the outer edge, 0 where the photo begins, and on downwards inside; float32 [H,W].
 *
 * @param {number[]} size width and height
 * @param {Point} before
 * @param {Point} after
 */
function depths([width, height], before, after) {
  const along = (/** @type {number} */ length, /** @type {number} */ axis) =>
    Float64Array.from(
      { length },
      (_, at) => 1 - Math.min(at / before[axis], (length - 1 - at) / after[axis]),
    );
  const [xs, ys] = [along(width, 0), along(height, 1)];
  const depth = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) depth[y * width + x] = Math.max(xs[x], ys[y]);
  }
  return depth;
}

/**
 * Mix other values in, in place, in float32 as the recipe does.
 *
 * @param {Float32Array} values [H,W,3]
 * @param {(at: number) => number} other
 * @param {(pixel: number) => number} share
 */
function blend(values, other, share) {
  for (let pixel = 0; pixel < values.length / 3; pixel += 1) {
    const part = share(pixel);
    if (part === 0) continue;
    for (let at = 3 * pixel; at < 3 * pixel + 3; at += 1) {
      values[at] += Math.fround(Math.fround(other(at) - values[at]) * part);
    }
  }
}

/** @param {number} value */
function clip(value) {
  return Math.min(Math.max(value, 0), 1);
}

/**
 * Gaussian blur of [H,W,3], cut and mirrored as SciPy's: down the columns, then along the rows.
 *
 * @param {Float32Array} values
 * @param {number} width
 * @param {number} height
 * @param {number} sigma
 * @param {(pixel: number) => boolean} isWanted where the result is needed; elsewhere it is not computed
 */
function blur(values, width, height, sigma, isWanted) {
  const radius = Math.floor(BLUR_REACH * sigma + 0.5);
  const kernel = Float64Array.from({ length: 2 * radius + 1 }, (_, n) =>
    Math.exp((-0.5 / (sigma * sigma)) * (n - radius) ** 2),
  );
  const sum = kernel.reduce((total, weight) => total + weight, 0);
  for (let n = 0; n < kernel.length; n += 1) kernel[n] /= sum;
  const columns = blurredColumns(values, width, height, kernel, radius);
  const result = new Float32Array(values.length);
  const places = Int32Array.from({ length: width + 2 * radius }, (_, n) => 3 * edged(n - radius, width));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!isWanted(y * width + x)) continue;
      let [red, green, blue] = [0, 0, 0];
      for (let n = 0; n < kernel.length; n += 1) {
        const from = 3 * y * width + places[x + n];
        red += kernel[n] * columns[from];
        green += kernel[n] * columns[from + 1];
        blue += kernel[n] * columns[from + 2];
      }
      result.set([red, green, blue], 3 * (y * width + x));
    }
  }
  return result;
}

/**
 * @param {Float32Array} values
 * @param {number} width
 * @param {number} height
 * @param {Float64Array} kernel
 * @param {number} radius
 */
function blurredColumns(values, width, height, kernel, radius) {
  const result = new Float32Array(values.length);
  const line = new Float64Array(3 * width);
  for (let y = 0; y < height; y += 1) {
    line.fill(0);
    for (let n = 0; n < kernel.length; n += 1) {
      const from = 3 * width * edged(y + n - radius, height);
      const weight = kernel[n];
      for (let at = 0; at < line.length; at += 1) line[at] += weight * values[from + at];
    }
    result.set(line, 3 * width * y);
  }
  return result;
}

/**
 * Place of a pixel beyond the edges, mirrored about the edges themselves: SciPy's and OpenCV's `reflect`.
 *
 * @param {number} place
 * @param {number} length
 */
function edged(place, length) {
  const period = 2 * length;
  const within = ((place % period) + period) % period;
  return within < length ? within : period - 1 - within;
}

/**
 * The median of a channel of [H,W,3].
 *
 * @param {Float32Array} values
 * @param {number} channel
 */
function median(values, channel) {
  const count = values.length / 3;
  const sorted = new Float32Array(count);
  for (let pixel = 0; pixel < count; pixel += 1) sorted[pixel] = values[3 * pixel + channel];
  sorted.sort();
  const upper = sorted[count >> 1];
  if (count % 2 === 1) return upper;
  return Math.fround(Math.fround(sorted[(count >> 1) - 1] + upper) / 2);
}

/**
 * Pillow's QUAD transform with bilinear sampling, its corners half a pixel on.
 *
 * @param {Picture} photo
 * @param {Quad} quad
 * @param {number} side
 * @returns {Picture}
 */
function sampled(photo, quad, side) {
  const { width, height, data: from } = photo;
  const [upperLeft, lowerLeft, lowerRight, upperRight] = moved(quad, ([x, y]) => [x + 0.5, y + 0.5]);
  const data = new Uint8ClampedArray(3 * side * side);
  const [across, down] = [upperRight, lowerLeft].map((corner) =>
    minus(corner, upperLeft).map((value) => value / side),
  );
  const twist = [0, 1].map(
    (axis) => (lowerRight[axis] - lowerLeft[axis] - upperRight[axis] + upperLeft[axis]) / side / side,
  );
  for (let n = 0; n < side * side; n += 1) {
    const [column, row] = [(n % side) + 0.5, Math.floor(n / side) + 0.5];
    const inX = upperLeft[0] + across[0] * column + down[0] * row + twist[0] * column * row;
    const inY = upperLeft[1] + across[1] * column + down[1] * row + twist[1] * column * row;
    if (inX < 0 || inX >= width || inY < 0 || inY >= height) continue;
    const [x, y] = [inX - 0.5, inY - 0.5];
    const [left, upper] = [Math.floor(x), Math.floor(y)];
    const [dx, dy] = [x - left, y - upper];
    const [l, r] = [Math.max(left, 0), Math.min(left + 1, width - 1)];
    const [a, b] = [Math.max(upper, 0) * width, Math.min(upper + 1, height - 1) * width];
    for (let channel = 0; channel < 3; channel += 1) {
      const above = from[3 * (a + l) + channel];
      const below = from[3 * (b + l) + channel];
      const high = above + (from[3 * (a + r) + channel] - above) * dx;
      const low = below + (from[3 * (b + r) + channel] - below) * dx;
      data[3 * n + channel] = Math.floor(high + (low - high) * dy); // truncated, as Pillow does
    }
  }
  return { height: side, width: side, data };
}
