// What a user can mend: one sentence that says what is wrong and how to mend it.

export class HyperStyleError extends Error {
  /** @param {string} sentence */
  constructor(sentence) {
    super(sentence);
    this.name = new.target.name;
  }
}

/** A bundle is missing, altered, damaged or of another version. */
export class BundleError extends HyperStyleError {}

/** An inversion file is damaged, or does not fit the bundle. */
export class InversionError extends HyperStyleError {}

/** A picture cannot be read or used. */
export class PictureError extends HyperStyleError {}

/** An edit cannot be done. */
export class EditError extends HyperStyleError {}

/** The browser, or ONNX Runtime in it, cannot do something. */
export class BackendError extends HyperStyleError {}

/**
 * Whatever was thrown, as an error.
 * @param {unknown} thrown
 */
export function asError(thrown) {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
