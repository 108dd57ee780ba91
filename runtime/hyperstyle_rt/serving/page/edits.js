// The sliders: one for every direction of the bundle.

import { byId, option } from "./elements.js";

const MOST = 3; // steps to either side

export class Edits {
  constructor(bundle, render) {
    this.sliders = new Map();
    this.render = render;
    for (const { name, unit } of bundle.directions) this.add(name, unit);
    byId("film-direction").append(...bundle.directions.map(({ name }) => option(name, words(name))));
    byId("reset").addEventListener("click", () => {
      this.reset();
      render({}, true);
    });
  }

  add(name, unit) {
    const label = document.createElement("label");
    const value = document.createElement("output");
    const slider = Object.assign(document.createElement("input"), {
      type: "range", min: -MOST, max: MOST, step: 0.1, value: 0,
    });
    label.title = `1 is: ${unit}`;
    value.textContent = "0";
    label.append(words(name), value, slider);
    slider.addEventListener("input", () => {
      value.textContent = slider.value;
      this.render(this.amounts(), false);
    });
    slider.addEventListener("change", () => this.render(this.amounts(), true));
    this.sliders.set(name, { slider, value });
    byId("sliders").append(label);
  }

  amounts() {
    const moved = [...this.sliders].filter(([, { slider }]) => Number(slider.value) !== 0);
    return Object.fromEntries(moved.map(([name, { slider }]) => [name, Number(slider.value)]));
  }

  reset() {
    for (const { slider, value } of this.sliders.values()) {
      slider.value = 0;
      value.textContent = "0";
    }
  }
}

function words(name) {
  return name.replaceAll("_", " ");
}
