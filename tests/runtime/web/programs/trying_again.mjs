// Graphs that fail the first time that they are run, as where a network is missing or memory is short: what
// a model says when it is asked three times for the same. Argument: the folder of a bundle.

import { Bundle } from "../../../../runtime/web/src/formats/bundle.js";
import { DirectorySource } from "../../../../runtime/web/src/formats/directory_source.js";
import { Model } from "../../../../runtime/web/src/model.js";

const bundle = await Bundle.open(new DirectorySource(process.argv[2]));
const { manifest } = bundle;
const { imageSize, numLatents, latentWidth, space } = manifest;

const failed = new Set();
const backend = {
  tensor: () => ({}),
  async run(role) {
    if (!failed.has(role)) {
      failed.add(role);
      throw new Error(`no ${role}`);
    }
    if (role === "generator") return { rendering: { data: new Float32Array(3 * imageSize[0] * imageSize[1]) } };
    const maps = manifest.optionalInputs.noise.map(({ name }) => [`noise.${name}`, { data: [0] }]);
    return role === "noise" ? Object.fromEntries(maps) : {};
  },
};

const model = new Model(bundle, backend, new Map(), null);
const latents = { floats: new Float32Array(numLatents * latentWidth), shape: [numLatents, latentWidth] };
const inversion = { latents, needed: new Map(), space };

async function said(work) {
  const answers = [];
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      await work();
      answers.push("done");
    } catch (error) {
      answers.push(error.message);
    }
  }
  return answers;
}

const rendered = await said(() => model.render(inversion));
const noise = await said(() => model.renderer.flatNoise());
console.log(JSON.stringify({ rendered, noise }));
