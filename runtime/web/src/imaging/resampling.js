// Pillow's 8-bit resizing, to the last bit.
//
// A filter, widened when scaling down (antialiased), in two passes of fixed point with 8-bit results,
// along the rows first. The sums are whole numbers below 2**53, hence exact.

/** @typedef {import("./pictures.js").Picture} Picture */
/**
 * @typedef {object} Filter A resampling kernel.
 * @property {number} radius in samples; from there on the weights are 0
 * @property {(distance: number) => number} weight
 */

const ONE = 2 ** 22; // Pillow's coefficients: 8 bits of pixel and 2 of headroom in 32

/** @type {Filter} */
export const BILINEAR = { radius: 1, weight: (x) => (Math.abs(x) < 1 ? 1 - Math.abs(x) : 0) };

/** @type {Filter} */
export const LANCZOS = { radius: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) };

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/**
 * Resize a picture as Pillow's `resize` does.
 *
 * @param {Picture} picture
 * @param {[number, number]} size height and width of the result, at least 1
 * @param {Filter} kernel
 * @returns {Picture}
 */
export function resize(picture, [height, width], kernel) {
  const { height: oldHeight, width: oldWidth, data } = picture;
  let pixels = data;
  if (oldWidth !== width) {
    pixels = resample(pixels, kernel, oldWidth, width, oldHeight, 3, 3 * oldWidth, 3 * width);
  }
  if (oldHeight !== height) {
    pixels = resample(pixels, kernel, oldHeight, height, width, 3 * width, 3, 3);
  }
  return { height, width, data: pixels };
}

/**
 * Resample one axis of a picture.
 *
 * @param {Uint8Array | Uint8ClampedArray} data
 * @param {Filter} kernel
 * @param {number} samples along the axis
 * @param {number} size samples of the result
 * @param {number} lines that are resampled
 * @param {number} step from sample to sample, in data and result
 * @param {number} stride from line to line in the data
 * @param {number} newStride from line to line in the result
 */
function resample(data, kernel, samples, size, lines, step, stride, newStride) {
  const weights = fixedWeights(samples, size, kernel);
  const result = new Uint8ClampedArray(3 * size * lines);
  for (let line = 0; line < lines; line += 1) {
    for (const [at, { lower, values }] of weights.entries()) {
      const from = line * stride + lower * step;
      const to = line * newStride + at * step;
      let [red, green, blue] = [ONE / 2, ONE / 2, ONE / 2];
      for (let n = 0, place = from; n < values.length; n += 1, place += step) {
        const weight = values[n];
        red += weight * data[place];
        green += weight * data[place + 1];
        blue += weight * data[place + 2];
      }
      result[to] = Math.floor(red / ONE);
      result[to + 1] = Math.floor(green / ONE);
      result[to + 2] = Math.floor(blue / ONE);
    }
  }
  return result;
}

/**
 * Pillow's fixed-point coefficients of every output.
 *
 * @param {number} samples
 * @param {number} size
 * @param {Filter} kernel
 */
function fixedWeights(samples, size, kernel) {
  const scale = samples / size;
  const stretch = Math.max(scale, 1);
  const reach = kernel.radius * stretch;
  return Array.from({ length: size }, (_, at) => {
    const centre = (at + 0.5) * scale;
    const lower = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const upper = Math.min(Math.trunc(centre + reach + 0.5), samples);
    // In Pillow's own order of operations, so that every rounding agrees.
    const values = Float64Array.from({ length: upper - lower }, (_, n) =>
      kernel.weight((lower + n - centre + 0.5) * (1 / stretch)),
    );
    const sum = values.reduce((total, value) => total + value, 0);
    const fixed = values.map((value) => {
      const share = value / sum;
      return Math.trunc(share * ONE + (share < 0 ? -0.5 : 0.5));
    });
    return { lower, values: fixed };
  });
}
