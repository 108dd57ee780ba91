// The engine of the page that works in the browser, in a worker. It has the functions of server.js; the
// page knows no other way to invert or render.

export class BrowserEngine {
  /** @param {URLSearchParams} asked `bundle`, `threads` and `provider` of the page's address */
  constructor(asked) {
    this.asked = asked;
    this.note = "Pictures do not leave this browser.";
    /** @type {string[]} */
    this.bundles = [];
    /** @type {Map<number, {resolve: Function, reject: Function, tell: Function}>} */
    this.calls = new Map();
    this.last = 0;
    this.worker = new Worker(new URL("engine/worker.js", import.meta.url), { type: "module" });
    this.worker.addEventListener("message", ({ data }) => this.hear(data));
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      const error = new Error(`The worker failed (${event.message}); load the page again.`);
      for (const { reject } of this.calls.values()) reject(error);
      this.calls.clear();
    });
  }

  async describe() {
    this.bundles = await (await fetch("bundles.json")).json();
    const wanted = this.asked.get("bundle");
    const chosen = this.bundles.includes(wanted ?? "") ? wanted : this.bundles[0];
    const processors = navigator.hardwareConcurrency ?? 1;
    const bundle = await this.call("open", {
      bundle: address(`bundles/${chosen}`),
      models: address("models"),
      runtime: address("onnxruntime-web/"),
      threads: Number(this.asked.get("threads")) || Math.min(processors, 8),
      provider: this.asked.get("provider") ?? "",
    });
    const { provider } = bundle.computed;
    const threads = bundle.threads === 1 ? "one thread" : `${bundle.threads} threads`;
    const how = provider === "wasm" ? `WebAssembly, ${threads}` : "WebGPU";
    this.note = `Pictures do not leave this browser (${how}).`;
    return bundle;
  }

  // Inverts a picture file; tell({kind, number, picture}) is called as it goes on.
  /**
   * @param {File} file
   * @param {{[name: string]: string}} settings
   * @param {(news: any) => void} tell
   * @param {AbortSignal} [signal]
   */
  async invert(file, settings, tell, signal) {
    const shown = (/** @type {any} */ news) => {
      tell(news.picture ? { ...news, picture: URL.createObjectURL(news.picture) } : news);
    };
    return await this.call("invert", { file, ...settings }, shown, signal);
  }

  /**
   * @param {File} file
   * @param {(news: any) => void} [tell]
   * @param {AbortSignal} [signal]
   */
  async open(file, tell, signal) {
    return await this.call("openFile", { file }, tell, signal);
  }

  /**
   * @param {string} id
   * @param {{[direction: string]: number}} amounts
   * @param {number} [size]
   * @param {string} [format]
   */
  async render(id, amounts, size, format = "jpeg") {
    return await this.call("render", { id, amounts, size, format });
  }

  /** @param {string} id */
  async crop(id) {
    return await this.call("crop", { id });
  }

  /** @param {string} id */
  async file(id) {
    return await this.call("file", { id });
  }

  /**
   * @param {string} first
   * @param {string} second
   * @param {number} fraction
   * @param {number} [size]
   */
  async between(first, second, fraction, size) {
    return await this.call("between", { first, second, fraction, size });
  }

  /**
   * @param {string} operation
   * @param {object} args
   * @param {Function} [tell]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async call(operation, args, tell = () => {}, signal = undefined) {
    this.last += 1;
    const call = this.last;
    const giveUp = () => this.worker.postMessage({ cancel: call });
    signal?.addEventListener("abort", giveUp, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        this.calls.set(call, { resolve, reject, tell });
        this.worker.postMessage({ call, operation, args });
      });
    } finally {
      signal?.removeEventListener("abort", giveUp);
    }
  }

  /** @param {{call: number, value?: unknown, news?: unknown, problem?: {name: string, message: string}}} said */
  hear({ call, value, news, problem }) {
    const waiting = this.calls.get(call);
    if (waiting === undefined) return;
    if (news !== undefined) {
      waiting.tell(news);
      return;
    }
    this.calls.delete(call);
    if (problem === undefined) waiting.resolve(value);
    else waiting.reject(Object.assign(new Error(problem.message), { name: problem.name }));
  }
}

/** @param {string} path A place beside this module. */
function address(path) {
  return new URL(path, import.meta.url).href;
}
