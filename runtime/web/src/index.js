export { BackendError, BundleError, EditError, HyperStyleError, InversionError, PictureError } from "./errors.js";
export { Bundle, sha256 } from "./formats/bundle.js";
export { cached, HttpSource } from "./formats/http_source.js";
export { InversionData } from "./formats/inversion_file.js";
export { fromRgba, toRgba } from "./imaging/pictures.js";
export { Model } from "./model.js";
