// The page's engine against a service that is made up here: what it asks for, and what it gets.
// Arguments: the file server.js, and the name of a case. Prints JSON.

const [file, name] = process.argv.slice(2);
const { ServerEngine } = await import(file);

globalThis.sessionStorage = {
  kept: {},
  getItem: (key) => sessionStorage.kept[key] ?? null,
  setItem: (key, value) => (sessionStorage.kept[key] = value),
};

globalThis.window = new EventTarget();

const asked = [];

// Answers requests with what a function gives of the path, the headers and the signal.
function serve(answer) {
  globalThis.fetch = async (path, { method = "GET", headers, signal } = {}) => {
    const sent = new Headers(headers); // throws for what no header can carry, as a browser does
    asked.push(`${method} ${path}`);
    signal?.throwIfAborted();
    return answer(path, sent, signal);
  };
}

async function outcome(promise) {
  try {
    return await promise;
  } catch (error) {
    return error.name === "AbortError" ? "stopped" : error.message;
  }
}

const cases = {
  async "stopped during the upload"() {
    const stop = new AbortController();
    serve((path) => {
      stop.abort();
      return path === "v1/inversions"
        ? Response.json({ id: "X" }, { status: 202 })
        : new Response(null, { status: 204 });
    });
    return outcome(new ServerEngine().invert(new Blob(["x"]), {}, () => {}, stop.signal));
  },

  async "stopped while the queue is full"() {
    const stop = new AbortController();
    serve(() => {
      stop.abort();
      return new Response("{}", { status: 429, headers: { "retry-after": "0.01" } });
    });
    return outcome(new ServerEngine().invert(new Blob(["x"]), {}, () => {}, stop.signal));
  },

  async "the page is closed"() {
    const never = new ReadableStream();
    serve((path) => {
      if (path === "v1/inversions") return Response.json({ id: "X" }, { status: 202 });
      if (!path.endsWith("/events")) return new Response(null, { status: 204 });
      setTimeout(() => window.dispatchEvent(new Event("pagehide")));
      return new Response(never);
    });
    new ServerEngine().invert(new Blob(["x"]), {}, () => {});
    for (let turn = 0; turn < 50; turn += 1) await new Promise((later) => setTimeout(later));
    return "closed";
  },

  async "stopped while a file is opened"() {
    const stop = new AbortController();
    serve(async (path, headers, signal) => {
      stop.abort();
      signal?.throwIfAborted();
      return Response.json("opened");
    });
    return outcome(new ServerEngine().open(new Blob(["x"]), () => {}, stop.signal));
  },

  async "a token that no header can carry"() {
    const tokens = ["schlüssel…falsch", "ключ", "line\nbreak", "right token"];
    serve((path, headers) =>
      headers.get("authorization") === "Bearer right token"
        ? Response.json(["described"])
        : new Response("{}", { status: 401 }),
    );
    return outcome(new ServerEngine(async () => tokens.shift()).describe());
  },
};

const result = await cases[name]();
console.log(JSON.stringify({ result, asked }));
