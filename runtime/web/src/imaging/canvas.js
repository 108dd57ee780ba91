// Picture files, by the browser's own decoders and encoders.

import { PictureError } from "../errors.js";
import { checkSize, fromRgba, toRgba } from "./pictures.js";

/** @typedef {import("./pictures.js").Picture} Picture */

const QUALITY = 0.95; // of JPEG and WebP

/**
 * Decode a picture file: upright, in sRGB, over white.
 *
 * @param {Blob} file
 * @returns {Promise<Picture>}
 * @throws {PictureError} if the browser cannot read it, or it is too large
 */
export async function decodePicture(file) {
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new PictureError(
      "the file is not a picture that this browser reads; save it as PNG, JPEG or WebP first",
    );
  }
  const { width, height } = image;
  try {
    checkSize(height, width, "the picture");
    const { context } = canvasOf(width, height);
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(image, 0, 0);
    return fromRgba(context.getImageData(0, 0, width, height));
  } finally {
    image.close();
  }
}

/**
 * Encode a picture.
 *
 * @param {Picture} picture
 * @param {{type: string, size?: number}} options size: longest side at most
 * @returns {Promise<Blob>}
 */
export async function encodePicture(picture, { type, size }) {
  const { width, height } = picture;
  const { canvas, context } = canvasOf(width, height);
  context.putImageData(new ImageData(toRgba(picture), width, height), 0, 0);
  const scale = Math.min(1, (size ?? Infinity) / Math.max(width, height));
  if (scale === 1) return await canvas.convertToBlob({ type, quality: QUALITY });
  const [smallWidth, smallHeight] = [width, height].map((n) => Math.max(1, Math.round(n * scale)));
  const small = canvasOf(smallWidth, smallHeight);
  small.context.imageSmoothingQuality = "high";
  small.context.drawImage(canvas, 0, 0, smallWidth, smallHeight);
  return await small.canvas.convertToBlob({ type, quality: QUALITY });
}

/**
 * @param {number} width
 * @param {number} height
 */
function canvasOf(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false, colorSpace: "srgb", willReadFrequently: true });
  if (context === null) {
    throw new PictureError(`the browser has no room for ${width} x ${height} pixels; scale it down first`);
  }
  return { canvas, context };
}
