// Reads inversion files of a folder and writes them again beside themselves, as NAME.again.

import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { InversionData } from "../../../../runtime/web/src/formats/inversion_file.js";

const [folder] = process.argv.slice(2);
for (const name of await readdir(folder)) {
  const data = InversionData.parse(new Uint8Array(await readFile(join(folder, name))));
  await writeFile(join(folder, `${name}.again`), data.toBytes());
}
console.log("null");
