// The page: what is dropped, chosen and moved on it, with an engine that inverts and renders.

import { Camera } from "./camera.js";
import { Edits } from "./edits.js";
import { latest } from "./latest.js";
import { byId, download, option, picturesIn, say, show, showBlob, url } from "./elements.js";

const PREVIEW = 512; // pixels, while something is dragged

class App {
  constructor(engine) {
    this.engine = engine;
    this.faces = []; // {id, label, facts, photo, crop, picture}
    this.face = null; // the one that is shown; none while an inversion is watched
    this.work = null; // AbortController of the inversion that is going on
  }

  async start() {
    this.bundle = await this.engine.describe();
    const { name, domain, height, width } = this.bundle;
    const served = name === domain ? name : `${name}: ${domain}`;
    byId("bundle").textContent = `${served}, ${width} × ${height}`;
    byId("privacy").textContent = this.engine.note;
    this.fillSettings();
    this.fillBundles();
    this.edits = new Edits(this.bundle, (amounts, settled) => this.rerender(amounts, settled));
    const render = latest((...wanted) => this.render(...wanted), fail);
    this.rerender = (amounts, settled) => render(this.face, amounts, settled);
    this.mix = latest((settled) => this.renderMix(settled), fail);
    this.listen();
  }

  fillSettings() {
    const { methods, gradient_steps: presets, then, films } = this.bundle;
    byId("method").append(
      option("", `the bundle's (${methods.find((each) => each.is_default).name})`),
      ...methods.map(({ name }) => option(name)),
    );
    byId("then").append(
      option("", then ? `the bundle's (${then})` : "none"),
      ...(then ? [option("none")] : []),
      ...presets.map((name) => option(name)),
    );
    show("then-label", presets.length > 0);
    byId("method").addEventListener("change", ({ target }) => {
      const own = target.value === "" ? `the bundle's (${then})` : "none, for a method is named";
      if (then) byId("then").options[0].textContent = own;
    });
    for (const id of ["film-label", "save-film", "save-morph"]) show(id, films.length > 0);
    show("every-method", methods.length > 1);
    byId("adaptations").hidden = this.bundle.adapted.length === 0;
    byId("adapted").append(...this.bundle.adapted.map((name) => this.adaptButton(name)));
  }

  // An engine that offers several bundles takes another one when the page is loaded again.
  fillBundles() {
    const { bundles = [] } = this.engine;
    show("bundles-label", bundles.length > 1);
    byId("bundles").append(...bundles.map((name) => option(name)));
    byId("bundles").value = this.bundle.name;
    byId("bundles").addEventListener("change", ({ target }) => {
      const address = new URL(location.href);
      address.searchParams.set("bundle", target.value);
      location.assign(address);
    });
  }

  listen() {
    // Anywhere on the page: a browser would leave it for a picture that misses the field.
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      document.addEventListener(kind, (event) => {
        const { dataTransfer, target } = event;
        if (target.closest?.("input") && !dataTransfer.types.includes("Files")) return; // text for it
        event.preventDefault();
        byId("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
        if (kind === "drop") this.take(picturesIn(dataTransfer));
      });
    }
    document.addEventListener("paste", (event) => this.take(picturesIn(event.clipboardData)));
    byId("file").addEventListener("change", (event) => {
      this.take([...event.target.files]);
      event.target.value = "";
    });
    new Camera((photo) => this.take([photo]));
    byId("split").addEventListener("input", ({ target }) => {
      byId("compare").style.setProperty("--split", `${target.value}%`);
    });
    const click = (id, action) => byId(id).addEventListener("click", () => this.attempt(action));
    click("save-picture", () => this.savePicture());
    click("save-file", async () => download(await this.engine.file(this.face.id), "inversion.safetensors"));
    click("save-pasted", () => this.savePasted());
    click("save-film", () => this.saveFilm());
    click("save-morph", () => this.saveMorph());
    click("every-method", () => this.compareMethods());
    byId("cancel").addEventListener("click", () => this.work?.abort());
    for (const id of ["first", "second"]) byId(id).addEventListener("change", () => this.mix(true));
    byId("fraction").addEventListener("input", () => this.mix(false));
    byId("fraction").addEventListener("change", () => this.mix(true));
  }

  async attempt(action) {
    try {
      await action();
    } catch (error) {
      fail(error);
    }
  }

  take(files) {
    if (files.length > 0 && this.isFree()) this.attempt(() => this.invert(files[0]));
  }

  isFree() {
    if (this.work === null) return true;
    say("One picture at a time: wait until this one is done, or stop it.", true);
    return false;
  }

  settings() {
    const named = ["method", "iterations", "then", "align", "face"];
    return Object.fromEntries(named.map((name) => [name, byId(name).value]));
  }

  async invert(file, settings = this.settings()) {
    const before = this.face;
    this.begin(file);
    try {
      const isFile = file.name?.endsWith(".safetensors");
      const facts = isFile
        ? await this.engine.open(file, (news) => this.tell(news), this.work.signal)
        : await this.engine.invert(file, settings, (news) => this.tell(news), this.work.signal);
      const face = await this.keep(file, facts);
      say(facts.notice ?? `Done: ${facts.method}, ${facts.iterations} iterations.`);
      return face;
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      say("Stopped.");
      return null;
    } finally {
      this.work = null;
      show("cancel", false);
      byId("compare").classList.remove("busy");
      if (this.face === null && before !== null) this.choose(before); // nothing came of it
      else show("stage", this.face !== null);
    }
  }

  begin(file) {
    this.work = new AbortController();
    this.unchoose();
    show("stage", true);
    show("cancel", true);
    show("methods", false);
    byId("steps").replaceChildren();
    byId("compare").classList.add("busy");
    say(`Inverting ${file.name || "the photo"}…`);
  }

  tell({ kind, number, loss, picture, notice, done, total }) {
    if (kind === "loading") {
      const [came, all] = [done, total].map((bytes) => (bytes / 2 ** 20).toFixed(1));
      say(`Loading the networks: ${came} of ${all} MiB`);
      return;
    }
    const watched = this.face === null; // no other face was chosen meanwhile
    if (picture && watched) byId("result").src = picture;
    if (kind === "crop") {
      if (watched) this.showCrop(picture);
      say(notice ?? "The face was found.");
      return;
    }
    if (kind === "iteration") {
      const image = Object.assign(new Image(), { src: picture, alt: `Iteration ${number}` });
      const item = document.createElement("li");
      item.append(image, String(number));
      byId("steps").append(item);
      say(`Iteration ${number}`);
    } else {
      say(`Gradient step ${number}, loss ${loss.toFixed(4)}`);
    }
  }

  // Makes an inversion that is done one of the faces of this visit, and shows it.
  async keep(photo, facts) {
    const crop = facts.has_crop ? url(await this.engine.crop(facts.id)) : null;
    const picture = url(await this.engine.render(facts.id, {}, 192));
    const label = `${this.faces.length + 1}: ${facts.method}`;
    const face = { id: facts.id, label, facts, photo, crop, picture };
    this.faces.push(face);
    byId("faces").append(this.faceButton(face));
    for (const id of ["first", "second"]) byId(id).append(option(face.id, label));
    if (this.faces.length > 1) {
      byId("second").value = face.id;
      show("between", true);
      this.mix(true);
    }
    this.choose(face);
    return face;
  }

  faceButton(face) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(Object.assign(new Image(), { src: face.picture, alt: "" }), face.label);
    button.addEventListener("click", () => this.choose(face));
    face.button = button;
    const item = document.createElement("div");
    item.role = "listitem";
    item.append(button);
    return item;
  }

  choose(face) {
    this.face = face;
    for (const each of this.faces) each.button.setAttribute("aria-current", each === face);
    show("stage", true);
    show("edits", this.bundle.directions.length > 0 || this.bundle.adapted.length > 0);
    for (const id of ["save-picture", "save-file"]) show(id, true);
    show("save-pasted", Boolean(face.facts.in_photo && face.facts.picture));
    this.showCrop(face.crop);
    this.edits.reset();
    this.rerender({}, true);
  }

  // What acts on the face that is shown is hidden where none is.
  unchoose() {
    this.face = null;
    for (const each of this.faces) each.button.setAttribute("aria-current", false);
    for (const id of ["edits", "save-picture", "save-file", "save-pasted"]) show(id, false);
    this.showCrop(null);
  }

  showCrop(source) {
    for (const id of ["crop", "seam", "split-row"]) show(id, source !== null);
    if (source !== null) byId("crop").src = source;
  }

  async render(face, amounts, settled) {
    const blob = await this.engine.render(face.id, amounts, settled ? undefined : PREVIEW);
    if (face === this.face) showBlob("result", blob);
  }

  async renderMix(settled) {
    const fraction = Number(byId("fraction").value);
    const ends = [byId("first").value, byId("second").value];
    const blob = await this.engine.between(...ends, fraction, settled ? undefined : PREVIEW);
    showBlob("mixed", blob);
    show("mixed", true);
  }

  async savePicture() {
    download(await this.engine.render(this.face.id, this.edits.amounts(), undefined, "png"), "face.png");
  }

  async savePasted() {
    say("Setting it back into the photo…");
    const { id, photo } = this.face;
    download(await this.engine.paste(id, photo, this.edits.amounts()), "pasted.jpg");
    say("");
  }

  async saveFilm() {
    say("Rendering the film…");
    const direction = byId("film-direction").value;
    const blob = await this.engine.film(this.face.id, this.edits.amounts(), direction);
    download(blob, `${direction}.${blob.type.split("/")[1]}`);
    say("");
  }

  async saveMorph() {
    say("Rendering the film…");
    const blob = await this.engine.morph(byId("first").value, byId("second").value);
    download(blob, `morph.${blob.type.split("/")[1]}`);
    say("");
  }

  async compareMethods() {
    if (!this.isFree()) return;
    const { photo } = this.face ?? {};
    if (!photo || photo.name?.endsWith(".safetensors")) {
      say("Invert a picture first.");
      return;
    }
    const results = [];
    for (const { name } of this.bundle.methods) {
      const face = await this.invert(photo, { ...this.settings(), method: name, iterations: "", then: "" });
      if (face === null) return;
      results.push([name, face.picture]);
    }
    byId("methods").replaceChildren(...results.map(([name, picture]) => figure(name, picture)));
    show("methods", true);
  }

  adaptButton(name) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.textContent = name;
    button.addEventListener("click", () => this.attempt(async () => {
      const { face } = this;
      const blob = await this.engine.adapt(face.id, name);
      if (face === this.face) showBlob("result", blob);
    }));
    return button;
  }
}

function figure(name, picture) {
  const made = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = name;
  made.append(Object.assign(new Image(), { src: picture, alt: name }), caption);
  return made;
}

function fail(error) {
  console.debug(error);
  say(error.message, true);
}

/** Opens the page with an engine: ServerEngine, or BrowserEngine of runtime/web. */
export function begin(engine) {
  new App(engine).start().catch(fail);
}
