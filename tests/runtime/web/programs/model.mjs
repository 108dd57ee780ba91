// A model of a bundle's folder, on onnxruntime-web in Node; variables ONNXRUNTIME_WEB and THREADS.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { DirectorySource } from "../../../../runtime/web/src/formats/directory_source.js";
import { Model } from "../../../../runtime/web/src/model.js";

const MODELS = new URL("../../../../runtime/hyperstyle_rt/photos/models/", import.meta.url);

export async function openModel(bundle) {
  const dist = join(process.env.ONNXRUNTIME_WEB, "dist", "ort.node.min.mjs");
  const ort = await import(pathToFileURL(dist).href);
  ort.env.wasm.numThreads = Number(process.env.THREADS);
  const read = async (name) => new Uint8Array(await readFile(new URL(name, MODELS)));
  return await Model.load(new DirectorySource(bundle), ort, read);
}

export function digestOf(data) {
  return createHash("sha256").update(data).digest("hex");
}
