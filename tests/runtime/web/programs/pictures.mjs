// Does picture maths: pictures.mjs JOBS IN OUT, where JOBS is JSON, [[name, operation, arguments]], the
// names of pictures among the arguments are those of arrays in the file IN, and results go to OUT.

import { readFile } from "node:fs/promises";
import { toInput, toPicture, turned } from "../../../../runtime/web/src/imaging/pictures.js";
import { BILINEAR, LANCZOS, resize } from "../../../../runtime/web/src/imaging/resampling.js";
import { resizeByArea, resizeLinear, warpAffine } from "../../../../runtime/web/src/imaging/sampling.js";
import { align, quadrilateral } from "../../../../runtime/web/src/photos/alignment.js";
import { arrayOf, doubles, pictureOf, readArrays, singles, writeArrays } from "./arrays.mjs";

const [jobs, input, output] = process.argv.slice(2);
const arrays = await readArrays(input);
const picture = (name) => pictureOf(arrays.get(name));
const kernels = { bilinear: BILINEAR, lanczos: LANCZOS };
const results = {};
const operations = {
  resize: (of, size, kernel) => ({ "": arrayOf(resize(picture(of), size, kernels[kernel])) }),
  area: (of, size) => ({ "": arrayOf(resizeByArea(picture(of), size)) }),
  linear: (of, size) => ({ "": arrayOf(resizeLinear(picture(of), size)) }),
  warp: (of, map, side) => ({ "": arrayOf(warpAffine(picture(of), map, side)) }),
  turned: (of, turns) => ({ "": arrayOf(turned(picture(of), turns)) }),
  input: (of, size) => ({ "": singles([1, 3, ...size], toInput(picture(of), size)) }),
  picture: (of, size) => ({ "": arrayOf(toPicture(arrays.get(of).floats, size)) }),
  quadrilateral: (points) => ({ "": doubles(quadrilateral(points)) }),
  align: (of, quad, side) => {
    const { crop, transform } = align(picture(of), quad, side);
    return { "": arrayOf(crop), "/transform": doubles(transform) };
  },
};
for (const [name, operation, ...rest] of JSON.parse(await readFile(jobs, "utf-8"))) {
  for (const [part, array] of Object.entries(operations[operation](...rest))) {
    results[name + part] = array;
  }
}
await writeArrays(output, results);
console.log("null");
