// Boxes of faces: left, top, right, bottom.

/** @typedef {[number, number, number, number]} Box */

const SAME_FACE = 0.3; // intersection over union
const COVERED = 0.5; // of the smaller of two boxes: then they are of one face

/** @param {Box} box */
export function area([left, top, right, bottom]) {
  return Math.max(right - left, 0) * Math.max(bottom - top, 0);
}

/**
 * Intersection over union.
 *
 * @param {Box} one
 * @param {Box} other
 */
export function overlap(one, other) {
  const both = shared(one, other);
  return both / Math.max(area(one) + area(other) - both, 1e-9);
}

/**
 * Whether two boxes overlap, or one lies largely within the other (an eye in a large face).
 *
 * @param {Box} one
 * @param {Box} other
 */
export function areOfOneFace(one, other) {
  const smaller = Math.min(area(one), area(other));
  return overlap(one, other) >= SAME_FACE || shared(one, other) >= COVERED * smaller;
}

/**
 * @param {Box} one
 * @param {Box} other
 */
function shared(one, other) {
  return area([
    Math.max(one[0], other[0]),
    Math.max(one[1], other[1]),
    Math.min(one[2], other[2]),
    Math.min(one[3], other[3]),
  ]);
}
