// The page without a browser: its elements and its engine are stood in for here, and what a visitor does is
// done by hand. Arguments: the folder of the page, and the name of a case. Prints JSON.

const [folder, name] = process.argv.slice(2);

class Element extends EventTarget {
  constructor() {
    super();
    const classes = new Set();
    const toggle = (name, on) => classes[on ? "add" : "delete"](name);
    this.classList = { add: (name) => toggle(name, true), remove: (name) => toggle(name, false), toggle };
    Object.assign(this, { dataset: {}, style: {}, children: [], value: "" });
  }

  get options() {
    return this.children;
  }

  append(...children) {
    this.children.push(...children);
  }

  replaceChildren() {}

  setAttribute(name, value) {
    this[name] = value;
  }
}

const elements = new Map();
const byId = (id) => elements.get(id) ?? elements.set(id, new Element()).get(id);
globalThis.document = Object.assign(new Element(), { getElementById: byId, createElement: () => new Element() });
globalThis.Image = Element;
globalThis.navigator = {};
URL.createObjectURL = (blob) => blob;
URL.revokeObjectURL = () => {};
console.debug = () => {}; // what a developer may look up

// Inversions end when the case says so; renderings, where `held` is set.
const ends = [];
const renderings = [];
let held = false;
const engine = {
  note: "",
  async describe() {
    const methods = [{ name: "a", is_default: true }, { name: "b", is_default: false }];
    const directions = [{ name: "smile", unit: "half" }];
    return { methods, gradient_steps: ["photo"], then: "photo", films: [], adapted: [], directions, height: 8, width: 8 };
  },
  invert: async (file, settings, tell) =>
    await new Promise((resolve, reject) => {
      tell({ kind: "crop", picture: `crop of ${file.name}` });
      const facts = { id: file.name, method: "a", iterations: 1, has_crop: true };
      ends.push({ done: () => resolve(facts), failed: () => reject(new Error("it failed")) });
    }),
  crop: async (id) => `crop ${id}`,
  async render(id, amounts, size) {
    const picture = `${id} ${JSON.stringify(amounts)}`;
    if (held && size !== 192) await new Promise((resolve) => renderings.push(resolve));
    return picture;
  },
  between: async () => "between",
};

const { begin } = await import(`${folder}/app.js`);
begin(engine);

async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((later) => setTimeout(later));
}

function choose(name) {
  const event = new Event("change");
  Object.defineProperty(event, "target", { value: { files: [{ name }] } });
  byId("file").dispatchEvent(event);
}

async function inverted(name) {
  choose(name);
  await settle();
  ends.pop().done();
  await settle();
}

const click = (element) => element.dispatchEvent(new Event("click"));
const face = (number) => byId("faces").children[number].children[0];
const isShown = (...ids) => ids.map((id) => !byId(id).hidden);
const state = () => ({
  shown: isShown("stage", "save-picture", "save-file", "edits"),
  result: byId("result").src,
  status: byId("status").textContent,
});

const cases = {
  async "nothing is done yet"() {
    choose("one");
    await settle();
    const before = state();
    ends.pop().done();
    await settle();
    return [before, state()];
  },

  async "nothing comes of it"() {
    choose("bad");
    await settle();
    ends.pop().failed();
    await settle();
    const first = state();
    await inverted("one");
    choose("bad");
    await settle();
    const during = state();
    ends.pop().failed();
    await settle();
    return [first, during, state()];
  },

  async "another face while a slider is moved"() {
    await inverted("one");
    await inverted("two");
    held = true;
    const slider = byId("sliders").children[0].children.at(-1);
    for (const amount of [1, 2]) {
      slider.value = amount;
      slider.dispatchEvent(new Event("input"));
    }
    click(face(0));
    held = false;
    await settle();
    for (const end of renderings) end();
    await settle();
    return { ...state(), slider: slider.value };
  },

  async "all methods while one goes on"() {
    await inverted("one");
    choose("two");
    await settle();
    click(byId("every-method"));
    await settle();
    return { going_on: ends.length, status: byId("status").textContent };
  },

  async "a method is named"() {
    const said = [];
    for (const value of ["", "b", ""]) {
      byId("method").value = value;
      byId("method").dispatchEvent(new Event("change"));
      said.push(byId("then").children[0].textContent);
    }
    return said;
  },

  async "a drop beside the field"() {
    const event = Object.assign(new Event("drop", { cancelable: true }), {
      dataTransfer: { files: [{ name: "one" }] },
    });
    document.dispatchEvent(event);
    await settle();
    return { kept_from_the_browser: event.defaultPrevented, going_on: ends.length };
  },
};

await settle();
console.log(JSON.stringify(await cases[name]()));
