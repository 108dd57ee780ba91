// What OpenCV does with pictures in `photos/faces.py`, to the last bit: shrinking by area, bilinear
// resizing, and affine maps. The networks that find faces look at these, and a level more or less here
// would move an aligned crop by a tenth of a pixel.

import { rint } from "../photos/points.js";

/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {{first: number, weights: Float32Array}} Span pixels from `first` on, and their shares */

const single = Math.fround;
const COEFFICIENT = 2 ** 11; // of bilinear resizing in fixed point

/**
 * OpenCV's `resize` with INTER_AREA, of a picture that becomes smaller.
 *
 * @param {Picture} picture
 * @param {[number, number]} size width and height of the result, at most those of the picture
 * @returns {Picture}
 */
export function resizeByArea(picture, [width, height]) {
  const [across, down] = [picture.width / width, picture.height / height];
  if (Number.isInteger(across) && Number.isInteger(down)) return meansOf(picture, across, down);
  const columns = areaSpans(picture.width, width);
  const rows = areaSpans(picture.height, height);
  const line = new Float32Array(3 * width);
  const sums = new Float32Array(3 * width);
  const data = new Uint8ClampedArray(3 * width * height);
  rows.forEach(({ first, weights }, y) => {
    weights.forEach((weight, n) => {
      sumColumns(picture, first + n, columns, line);
      for (let at = 0; at < line.length; at += 1) {
        const part = single(weight * line[at]);
        sums[at] = n === 0 ? part : sums[at] + part;
      }
    });
    for (let at = 0; at < sums.length; at += 1) data[3 * width * y + at] = rint(sums[at]);
  });
  return { height, width, data };
}

/**
 * @param {Picture} picture
 * @param {number} row
 * @param {Span[]} columns
 * @param {Float32Array} line [w*3], written
 */
function sumColumns({ width, data }, row, columns, line) {
  columns.forEach(({ first, weights }, x) => {
    let [red, green, blue] = [0, 0, 0];
    for (let n = 0, at = 3 * (row * width + first); n < weights.length; n += 1, at += 3) {
      const weight = weights[n];
      red = single(red + single(weight * data[at]));
      green = single(green + single(weight * data[at + 1]));
      blue = single(blue + single(weight * data[at + 2]));
    }
    line[3 * x] = red;
    line[3 * x + 1] = green;
    line[3 * x + 2] = blue;
  });
}

/**
 * What part each pixel has in an output pixel's area; shares below a thousandth are left out.
 *
 * @param {number} samples
 * @param {number} size
 * @returns {Span[]}
 */
function areaSpans(samples, size) {
  const scale = samples / size;
  return Array.from({ length: size }, (_, at) => {
    const [start, stop] = [at * scale, at * scale + scale];
    const area = Math.min(scale, samples - start);
    const last = Math.min(Math.floor(stop), samples - 1);
    const whole = Math.min(Math.ceil(start), last);
    /** @type {number[]} */
    const weights = [];
    let first = whole;
    if (whole - start > 1e-3) {
      first = whole - 1;
      weights.push((whole - start) / area);
    }
    for (let pixel = whole; pixel < last; pixel += 1) weights.push(1 / area);
    if (stop - last > 1e-3) weights.push(Math.min(Math.min(stop - last, 1), area) / area);
    return { first, weights: Float32Array.from(weights) };
  });
}

/**
 * Means of whole blocks of pixels.
 *
 * @param {Picture} picture
 * @param {number} across columns of a block
 * @param {number} down rows of a block
 * @returns {Picture}
 */
function meansOf(picture, across, down) {
  const [width, height] = [picture.width / across, picture.height / down];
  const data = new Uint8ClampedArray(3 * width * height);
  const scale = single(1 / (across * down));
  // Means of 2x2 pixels are rounded half up, all others to even.
  const isHalf = across === 2 && down === 2;
  for (let at = 0; at < data.length; at += 1) {
    const pixel = Math.floor(at / 3);
    const [x, y] = [(pixel % width) * across, Math.floor(pixel / width) * down];
    let sum = 0;
    for (let row = y; row < y + down; row += 1) {
      for (let column = x; column < x + across; column += 1) {
        sum += picture.data[3 * (row * picture.width + column) + (at % 3)];
      }
    }
    data[at] = isHalf ? (sum + 2) >> 2 : rint(single(sum * scale));
  }
  return { height, width, data };
}

/**
 * OpenCV's `resize` with INTER_LINEAR, in its fixed point.
 *
 * @param {Picture} picture
 * @param {[number, number]} size width and height of the result
 * @returns {Picture}
 */
export function resizeLinear(picture, [width, height]) {
  const columns = linearPlaces(picture.width, width, true);
  const rows = linearPlaces(picture.height, height, false);
  const data = new Uint8ClampedArray(3 * width * height);
  const level = (/** @type {number} */ row, /** @type {number} */ column, /** @type {number} */ channel) =>
    picture.data[3 * (row * picture.width + column) + channel];
  rows.forEach((row, y) => {
    columns.forEach((column, x) => {
      for (let channel = 0; channel < 3; channel += 1) {
        const [above, below] = [row.first, row.second].map(
          (line) =>
            (level(line, column.first, channel) * column.near +
              level(line, column.second, channel) * column.far) >> 4,
        );
        const sum = ((row.near * above) >> 16) + ((row.far * below) >> 16);
        data[3 * (y * width + x) + channel] = (sum + 2) >> 2;
      }
    });
  });
  return { height, width, data };
}

/**
 * The two pixels that an output pixel lies between, and their shares in fixed point.
 *
 * @param {number} samples
 * @param {number} size
 * @param {boolean} isAcross along rows; there alone the outer pixels get the whole share, while down the
 *   columns both shares are theirs and each is rounded
 */
function linearPlaces(samples, size, isAcross) {
  const within = (/** @type {number} */ pixel) => Math.min(Math.max(pixel, 0), samples - 1);
  return Array.from({ length: size }, (_, at) => {
    const place = single((at + 0.5) * (samples / size) - 0.5);
    const pixel = Math.floor(place);
    const isOutside = isAcross && (pixel < 0 || pixel >= samples - 1);
    const share = isOutside ? 0 : single(place - pixel);
    return {
      first: within(pixel),
      second: within(pixel + 1),
      near: rint(single(single(1 - share) * COEFFICIENT)),
      far: rint(share * COEFFICIENT),
    };
  });
}

/**
 * OpenCV's `warpAffine` with bilinear sampling, black outside the picture, in float32 with fused
 * multiply-adds as its vectors compute it.
 *
 * @param {Picture} picture
 * @param {number[][]} toPicture [2,3], from pixels of the result to pixels of the picture
 * @param {number} side of the result
 * @returns {Picture}
 */
export function warpAffine(picture, toPicture, side) {
  const [[a, b, c], [d, e, f]] = toPicture.map((row) => row.map(single));
  const data = new Uint8ClampedArray(3 * side * side);
  for (let row = 0; row < side; row += 1) {
    const [startX, startY] = [single(single(row * b) + c), single(single(row * e) + f)];
    for (let column = 0; column < side; column += 1) {
      // Products of two float32 are exact in float64, so one rounding is left: a fused multiply-add.
      const [x, y] = [single(column * a + startX), single(column * d + startY)];
      sample(picture, x, y, data, 3 * (row * side + column));
    }
  }
  return { height: side, width: side, data };
}

/**
 * @param {Picture} picture
 * @param {number} x
 * @param {number} y
 * @param {Uint8ClampedArray} data written at `to`
 * @param {number} to
 */
function sample(picture, x, y, data, to) {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [dx, dy] = [single(x - left), single(y - top)];
  for (let channel = 0; channel < 3; channel += 1) {
    const [p, q] = [levelOf(picture, left, top, channel), levelOf(picture, left + 1, top, channel)];
    const [r, s] = [levelOf(picture, left, top + 1, channel), levelOf(picture, left + 1, top + 1, channel)];
    const above = single(p + dx * (q - p));
    const below = single(r + dx * (s - r));
    data[to + channel] = rint(single(above + dy * single(below - above)));
  }
}

/**
 * @param {Picture} picture
 * @param {number} x
 * @param {number} y
 * @param {number} channel
 */
function levelOf({ width, height, data }, x, y, channel) {
  return x < 0 || y < 0 || x >= width || y >= height ? 0 : data[3 * (y * width + x) + channel];
}
