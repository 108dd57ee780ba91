// float16, which a safetensors file may hold and JavaScript engines have only lately.

/**
 * @param {Uint16Array} halves their bits
 * @returns {Float32Array} the same numbers
 */
export function toSingles(halves) {
  return Float32Array.from(halves, toSingle);
}

/** @param {Uint16Array} halves Whether none is NaN or infinite. */
export function areFinite(halves) {
  return halves.every((bits) => (bits & 0x7c00) !== 0x7c00);
}

/** @param {number} bits */
function toSingle(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
