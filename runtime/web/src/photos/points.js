// Points (x, y) of a photo, and affine maps between pictures. Whole numbers are the centres of pixels,
// x to the right, y down.

/** @typedef {[number, number]} Point */
/** @typedef {number[][]} Matrix [2,3] or [3,3], rows of an affine map */

/** @param {number} value The nearest whole number, of two equally near the even one, as numpy's. */
export function rint(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/** @param {Point} vector */
export function lengthOf([x, y]) {
  return Math.sqrt(x * x + y * y);
}

/** @param {Point} vector Turned by 90 degrees, clockwise as seen. */
export function quarterTurn([x, y]) {
  return /** @type {Point} */ ([-y, x]);
}

/**
 * @param {Point} one
 * @param {Point} other
 */
export function plus(one, other) {
  return /** @type {Point} */ ([one[0] + other[0], one[1] + other[1]]);
}

/**
 * @param {Point} one
 * @param {Point} other
 */
export function minus(one, other) {
  return /** @type {Point} */ ([one[0] - other[0], one[1] - other[1]]);
}

/**
 * @param {Point} vector
 * @param {number} factor
 */
export function times([x, y], factor) {
  return /** @type {Point} */ ([x * factor, y * factor]);
}

/** @param {Point[]} points */
export function mean(points) {
  return times(points.reduce(plus, /** @type {Point} */ ([0, 0])), 1 / points.length);
}

/**
 * The box around points: its upper left and lower right corner.
 *
 * @param {Point[]} points
 * @returns {[Point, Point]}
 */
export function bounds(points) {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  return [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]];
}

/**
 * A point through an affine map.
 *
 * @param {Matrix} map
 * @param {Point} point
 * @returns {Point}
 */
export function mapped([[a, b, c], [d, e, f]], [x, y]) {
  return [a * x + b * y + c, d * x + e * y + f];
}

/**
 * The inverse of an affine map, [3,3].
 *
 * @param {Matrix} map
 * @returns {Matrix}
 */
export function inverse([[a, b, c], [d, e, f]]) {
  const determinant = a * e - b * d;
  const [ia, ib, id, ie] = [e, -b, -d, a].map((value) => value / determinant);
  return [[ia, ib, -(ia * c + ib * f)], [id, ie, -(id * c + ie * f)], [0, 0, 1]];
}

/**
 * The map to a picture resized by `factor`, which keeps edges of pixels, not centres.
 *
 * @param {Matrix} map [3,3]
 * @param {number} factor
 * @returns {Matrix}
 */
export function scaled([first, second], factor) {
  const resize = (/** @type {number[]} */ [a, b, c]) => [
    factor * a,
    factor * b,
    factor * c + (factor - 1) / 2,
  ];
  return [resize(first), resize(second), [0, 0, 1]];
}
