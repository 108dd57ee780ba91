// What the reader of a kind says of every file of a folder: file name to its sentence, or to null.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Manifest } from "../../../../runtime/web/src/formats/manifest.js";
import { InversionData } from "../../../../runtime/web/src/formats/inversion_file.js";

const [kind, folder] = process.argv.slice(2);
const read = { manifest: Manifest.parse, inversion: InversionData.parse }[kind];
const said = {};
for (const name of await readdir(folder)) {
  try {
    read(new Uint8Array(await readFile(join(folder, name))));
    said[name] = null;
  } catch (error) {
    said[name] = `${error.constructor.name}: ${error.message}`;
  }
}
console.log(JSON.stringify(said));
