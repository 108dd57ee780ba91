// Arrays between Python and these programs: safetensors files.

import { readFile, writeFile } from "node:fs/promises";
import { parse, serialize, Tensor } from "../../../../runtime/web/src/formats/safetensors.js";

/** All arrays of a file, by name. */
export async function readArrays(path) {
  return parse(new Uint8Array(await readFile(path))).tensors;
}

/** Write arrays: {name: Tensor}. */
export async function writeArrays(path, arrays) {
  await writeFile(path, serialize(new Map(Object.entries(arrays)), new Map()));
}

/** A picture of a uint8 array [H,W,3]. */
export function pictureOf({ shape: [height, width], values }) {
  return { height, width, data: values };
}

/** The uint8 array [H,W,3] of a picture. */
export function arrayOf({ height, width, data }) {
  return new Tensor("uint8", [height, width, 3], new Uint8Array(data));
}

export function doubles(rows) {
  return new Tensor("float64", [rows.length, rows[0].length], Float64Array.from(rows.flat()));
}

export function singles(shape, values) {
  return Tensor.float32(shape, values);
}
