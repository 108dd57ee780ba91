// Opens the bundle of a folder and reads the files of a graph: the sentence it is refused with, or null.

import { Bundle } from "../../../../runtime/web/src/formats/bundle.js";
import { DirectorySource } from "../../../../runtime/web/src/formats/directory_source.js";

const [folder, role] = process.argv.slice(2);
try {
  const bundle = await Bundle.open(new DirectorySource(folder));
  const { model, data } = await bundle.graph(role);
  const sizes = data.map(({ path, data: content }) => [path, content.length]);
  console.log(JSON.stringify({ digest: bundle.digest, model: model.length, data: sizes }));
} catch (error) {
  console.log(JSON.stringify(`${error.constructor.name}: ${error.message}`));
}
