// Inverts pictures: invert.mjs BUNDLE PICTURES OUT [OPTIONS]. PICTURES is a file of arrays [H,W,3]; into
// OUT go, for each, <name>.safetensors and in "arrays" its crop, renderings and CPU times in seconds.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Tensor } from "../../../../runtime/web/src/formats/safetensors.js";
import { arrayOf, pictureOf, readArrays, writeArrays } from "./arrays.mjs";
import { openModel } from "./model.mjs";

const [bundle, pictures, folder, options = "{}"] = process.argv.slice(2);
const { align = "auto", edits = {}, ...asked } = JSON.parse(options);
const model = await openModel(bundle);
await model.prepare(asked.method ?? null, () => {});
await mkdir(folder, { recursive: true });
const results = {};
const seconds = { cpu: [], wall: [] };
let previous = null;
for (const [name, array] of await readArrays(pictures)) {
  const { crop, notice } = await model.crop(pictureOf(array), { align });
  if (align === "never" && notice !== null) throw new Error(notice);
  let [cpu, wall] = [process.cpuUsage(), performance.now()];
  const onIteration = (number, rendering) => {
    const used = process.cpuUsage(cpu);
    seconds.cpu.push((used.user + used.system) / 1e6);
    seconds.wall.push((performance.now() - wall) / 1e3);
    [cpu, wall] = [process.cpuUsage(), performance.now()];
    results[`${name}/iteration${number}`] = arrayOf(rendering);
  };
  const { data, rendering } = await model.invert(crop, { ...asked, onIteration });
  results[`${name}/crop`] = arrayOf(crop.picture);
  results[`${name}/rendering`] = arrayOf(rendering);
  results[`${name}/again`] = arrayOf(await model.render(data));
  if (Object.keys(edits).length > 0) {
    results[`${name}/edited`] = arrayOf(await model.render(data, edits));
  }
  if (previous !== null) {
    results[`${name}/between`] = arrayOf(await model.interpolate(previous, data, 0.25));
  }
  previous = data;
  await writeFile(join(folder, `${name}.safetensors`), data.toBytes());
}
for (const [kind, values] of Object.entries(seconds)) {
  results[`seconds/${kind}`] = new Tensor("float64", [values.length], Float64Array.from(values));
}
await writeArrays(join(folder, "arrays"), results);
await model.close();
console.log("null");
