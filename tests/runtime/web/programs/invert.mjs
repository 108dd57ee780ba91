// Inverts pictures and renders inversions: invert.mjs BUNDLE PICTURES OUT JOBS.
//
// PICTURES is a file of arrays [H,W,3]. JOBS is a list of {name, picture, align, edits, ...options of
// Model.invert}, {name, file, edits} that renders an inversion file, and {name, between: [file, file],
// fraction}. What they give goes into the folder OUT: <name>.safetensors and a file "arrays" of renderings,
// crops and seconds of every iteration; printed is what each was refused with, null for nothing.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Tensor } from "../../../../runtime/web/src/formats/safetensors.js";
import { arrayOf, pictureOf, readArrays, writeArrays } from "./arrays.mjs";
import { openModel } from "./model.mjs";

const [bundle, pictures, folder, jobs] = process.argv.slice(2);
const model = await openModel(bundle);
const arrays = await readArrays(pictures);
await mkdir(folder, { recursive: true });
const results = {};
const refusals = {};

const opened = async (path) => model.open(new Uint8Array(await readFile(path)));

async function render(name, data, edits) {
  results[`${name}/rendering`] = arrayOf(await model.render(data));
  if (edits) results[`${name}/edited`] = arrayOf(await model.render(data, edits));
}

async function invert({ name, picture, align = "never", edits, ...options }) {
  await model.prepare(options.method ?? null, () => {});
  const { crop } = await model.crop(pictureOf(arrays.get(picture)), { align });
  const seconds = { cpu: [], wall: [] };
  let [cpu, wall] = [process.cpuUsage(), performance.now()];
  const onIteration = (number, rendering) => {
    const used = process.cpuUsage(cpu);
    seconds.cpu.push((used.user + used.system) / 1e6);
    seconds.wall.push((performance.now() - wall) / 1e3);
    results[`${name}/iteration${number}`] = arrayOf(rendering);
    [cpu, wall] = [process.cpuUsage(), performance.now()];
  };
  const { data, rendering } = await model.invert(crop, { ...options, onIteration });
  results[`${name}/crop`] = arrayOf(crop.picture);
  results[`${name}/found`] = arrayOf(rendering);
  for (const [kind, values] of Object.entries(seconds)) {
    results[`${name}/${kind}`] = new Tensor("float64", [values.length], Float64Array.from(values));
  }
  await writeFile(join(folder, `${name}.safetensors`), data.toBytes());
  await render(name, data, edits);
}

for (const job of JSON.parse(jobs)) {
  refusals[job.name] = null;
  try {
    if (job.file) {
      await render(job.name, await opened(job.file), job.edits);
    } else if (job.between) {
      const [first, second] = [await opened(job.between[0]), await opened(job.between[1])];
      const picture = await model.interpolate(first, second, job.fraction);
      results[`${job.name}/rendering`] = arrayOf(picture);
    } else {
      await invert(job);
    }
  } catch (error) {
    refusals[job.name] = `${error.constructor.name}: ${error.message}`;
  }
}
await writeArrays(join(folder, "arrays"), results);
await model.close();
console.log(JSON.stringify(refusals));
