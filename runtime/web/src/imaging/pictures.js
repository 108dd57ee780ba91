// Pictures as networks take and give them. A picture is RGB, sRGB, 8 bits, rows from the top.

import { PictureError } from "../errors.js";
import { BILINEAR, resize } from "./resampling.js";

/**
 * @typedef {object} Picture
 * @property {number} height
 * @property {number} width
 * @property {Uint8Array | Uint8ClampedArray} data RGB of the pixels, height * width * 3 bytes
 */

const MAX_PIXELS = 120_000_000;
const MAX_SIDE = 65_500;

// float32 input value of every 8-bit level, as ToTensor and Normalize(0.5, 0.5) compute it.
const LEVELS = Float32Array.from({ length: 256 }, (_, level) => {
  const share = Math.fround(level / 255);
  return Math.fround(Math.fround(share - 0.5) / 0.5);
});

/**
 * Refuse pictures without pixels, or with more than fit into memory.
 *
 * @param {number} height
 * @param {number} width
 * @param {string} what
 * @throws {PictureError}
 */
export function checkSize(height, width, what) {
  if (height < 1 || width < 1) throw new PictureError(`${what} has no pixels; give another one`);
  if (height * width > MAX_PIXELS || Math.max(height, width) > MAX_SIDE) {
    throw new PictureError(
      `${what} has ${width} x ${height} pixels, more than ${MAX_PIXELS}; scale it down first`,
    );
  }
}

/**
 * The networks' input of a picture.
 *
 * @param {Picture} picture
 * @param {[number, number]} size height and width that the networks take
 * @returns {Float32Array} [1,3,h,w] in [-1,1]
 */
export function toInput(picture, size) {
  const { data } = resize(picture, size, BILINEAR);
  const pixels = size[0] * size[1];
  const planes = new Float32Array(3 * pixels);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      planes[channel * pixels + pixel] = LEVELS[data[3 * pixel + channel]];
    }
  }
  return planes;
}

/**
 * A picture of a network's output: clipped, and truncated as the original does.
 *
 * @param {Float32Array} planes [3,H,W], about -1 to 1
 * @param {[number, number]} size height and width
 * @returns {Picture}
 * @throws {RangeError} if a value is not finite
 */
export function toPicture(planes, [height, width]) {
  const pixels = height * width;
  const data = new Uint8ClampedArray(3 * pixels);
  for (let channel = 0; channel < 3; channel += 1) {
    for (let pixel = 0; pixel < pixels; pixel += 1) {
      const value = planes[channel * pixels + pixel];
      if (!Number.isFinite(value)) throw new RangeError("the network's output holds NaN or infinity");
      const share = Math.min(Math.max(Math.fround(Math.fround(value + 1) / 2), 0), 1);
      data[3 * pixel + channel] = Math.floor(Math.fround(share * 255));
    }
  }
  return { height, width, data };
}

/**
 * A picture of the RGBA bytes that a canvas gives; it is opaque.
 *
 * @param {{width: number, height: number, data: Uint8ClampedArray}} image
 * @returns {Picture}
 */
export function fromRgba({ width, height, data }) {
  const rgb = new Uint8ClampedArray(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      rgb[3 * pixel + channel] = data[4 * pixel + channel];
    }
  }
  return { height, width, data: rgb };
}

/**
 * RGBA bytes for a canvas.
 *
 * @param {Picture} picture
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export function toRgba({ width, height, data }) {
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      rgba[4 * pixel + channel] = data[3 * pixel + channel];
    }
  }
  return rgba;
}

/**
 * A part of a picture, copied.
 *
 * @param {Picture} picture
 * @param {number} left
 * @param {number} top
 * @param {number} right beyond the last column
 * @param {number} bottom beyond the last row
 * @returns {Picture}
 */
export function cut(picture, left, top, right, bottom) {
  const [width, height] = [right - left, bottom - top];
  const data = new Uint8ClampedArray(3 * width * height);
  for (let row = 0; row < height; row += 1) {
    const start = 3 * ((top + row) * picture.width + left);
    data.set(picture.data.subarray(start, start + 3 * width), 3 * row * width);
  }
  return { height, width, data };
}

/**
 * A picture turned counter-clockwise by quarter turns, as numpy's `rot90`.
 *
 * @param {Picture} picture
 * @param {number} quarterTurns 0 to 3
 * @returns {Picture}
 */
export function turned(picture, quarterTurns) {
  if (quarterTurns === 0) return picture;
  const { width: oldWidth, height: oldHeight } = picture;
  const swaps = quarterTurns % 2 === 1;
  const [width, height] = swaps ? [oldHeight, oldWidth] : [oldWidth, oldHeight];
  const data = new Uint8ClampedArray(3 * width * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      let [fromX, fromY] = [oldWidth - 1 - x, oldHeight - 1 - y];
      if (quarterTurns === 1) [fromX, fromY] = [oldWidth - 1 - y, x];
      if (quarterTurns === 3) [fromX, fromY] = [y, oldHeight - 1 - x];
      const [from, to] = [3 * (fromY * oldWidth + fromX), 3 * (y * width + x)];
      data[to] = picture.data[from];
      data[to + 1] = picture.data[from + 1];
      data[to + 2] = picture.data[from + 2];
    }
  }
  return { height, width, data };
}
