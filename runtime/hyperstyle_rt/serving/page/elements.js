// Small things that all parts of the page use.

export const byId = (id) => document.getElementById(id);

export function show(id, shown) {
  byId(id).hidden = !shown;
}

export function say(text, bad = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("bad", bad);
}

export function option(value, text = value) {
  return Object.assign(document.createElement("option"), { value, textContent: text });
}

export function url(blob) {
  return URL.createObjectURL(blob);
}

// Shows a blob in an image, and frees the one that it showed before.
export function showBlob(id, blob) {
  const image = byId(id);
  if (image.dataset.url) URL.revokeObjectURL(image.dataset.url);
  image.dataset.url = url(blob);
  image.src = image.dataset.url;
}

export function download(blob, name) {
  const at = url(blob);
  Object.assign(document.createElement("a"), { href: at, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(at), 10_000);
}

export function picturesIn(transfer) {
  return [...(transfer?.files ?? [])];
}
