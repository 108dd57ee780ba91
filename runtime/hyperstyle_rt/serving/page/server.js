// The engine of the page that works on the server. Every engine has these functions; the page knows
// no other way to invert or render.

const TOKEN = "hyperstyle-rt token";

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export class ServerEngine {
  constructor(askForToken) {
    this.askForToken = askForToken;
    this.note = "Pictures go to the machine that runs this service, and nowhere else.";
  }

  async describe() {
    return (await (await this.ask("v1/bundles")).json())[0];
  }

  // Inverts a picture file; tell({kind, number, loss, picture}) is called as it goes on.
  async invert(file, settings, tell, signal) {
    const form = new FormData();
    form.append("picture", file);
    for (const [name, value] of Object.entries(settings)) {
      if (value !== "" && value !== undefined) form.append(name, value);
    }
    const headers = { prefer: "respond-async" };
    // Not with the signal: a job whose id never comes could not be given up.
    const answer = await this.ask("v1/inversions", { method: "POST", body: form, headers }, signal);
    const { id } = await answer.json();
    const forget = { method: "DELETE", keepalive: true }; // beyond the page
    const giveUp = () => this.ask(`v1/inversions/${id}`, forget).catch(() => {});
    if (signal?.aborted) {
      giveUp();
      throw signal.reason;
    }
    signal?.addEventListener("abort", giveUp, { once: true });
    window.addEventListener("pagehide", giveUp, { once: true });
    try {
      return await this.follow(id, tell, signal);
    } finally {
      signal?.removeEventListener("abort", giveUp);
      window.removeEventListener("pagehide", giveUp);
    }
  }

  async open(file, tell, signal) {
    const form = new FormData();
    form.append("file", file);
    const options = { method: "POST", body: form, signal };
    return await (await this.ask("v1/inversion-files", options, signal)).json();
  }

  async render(id, amounts, size, format = "jpeg") {
    return await this.post(`v1/inversions/${id}/edits`, { amounts, size, format });
  }

  async crop(id) {
    return await (await this.ask(`v1/inversions/${id}/crop`)).blob();
  }

  async file(id) {
    return await (await this.ask(`v1/inversions/${id}/file`)).blob();
  }

  async paste(id, photo, amounts) {
    const form = new FormData();
    form.append("photo", photo);
    form.append("amounts", JSON.stringify(amounts));
    const at = `v1/inversions/${id}/pastings`;
    return await (await this.ask(at, { method: "POST", body: form })).blob();
  }

  async film(id, amounts, direction) {
    const sweep = { direction, start: -3, stop: 3, frames: 36 };
    return await this.post(`v1/inversions/${id}/edits`, { amounts, sweep });
  }

  async between(first, second, fraction, size) {
    return await this.post("v1/interpolations", { first, second, fraction, size, format: "jpeg" });
  }

  async morph(first, second) {
    return await this.post("v1/interpolations", { first, second, frames: 60 });
  }

  async adapt(id, bundle) {
    return await this.post("v1/adaptations", { inversion: id, bundle, format: "jpeg" });
  }

  async post(path, body) {
    const headers = { "content-type": "application/json" };
    const answer = await this.ask(path, { method: "POST", body: JSON.stringify(body), headers });
    return await answer.blob();
  }

  // A request with the token, if there is one. Busy answers are waited for, until it is stopped.
  async ask(path, options = {}, stopped = undefined) {
    for (let attempt = 0; ; attempt += 1) {
      stopped?.throwIfAborted();
      const token = sessionStorage.getItem(TOKEN);
      const headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
      const answer = await reached(fetch(path, { ...options, headers }));
      if (answer.ok) return answer;
      if (answer.status === 401) {
        const given = await this.askForToken();
        // With other characters fetch would throw, and go on so: a wrong token is asked for again.
        if (/^[ -~]*$/.test(given)) sessionStorage.setItem(TOKEN, given);
      } else if (answer.status === 429 && attempt < 5) {
        const seconds = Number(answer.headers.get("retry-after")) || 1;
        await new Promise((later) => setTimeout(later, 1000 * Math.min(seconds, 10)));
      } else {
        throw new Refused(answer.status, await sentence(answer));
      }
    }
  }

  // Reads the events of an inversion to the end: EventSource could not send the token.
  async follow(id, tell, signal) {
    const answer = await this.ask(`v1/inversions/${id}/events`, { signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reached(reader.read());
      text += value ?? "";
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events.filter((each) => each.startsWith("event: "))) {
        const [kind, data] = event.slice("event: ".length).split("\ndata: ");
        const facts = JSON.parse(data);
        if (kind === "done") return facts;
        if (kind === "failed") throw new Refused(422, facts.problem);
        tell({ kind, ...facts });
      }
      if (done) throw new Refused(0, "The connection was lost; try it again.");
    }
  }
}

// What the network gives; where it fails, a sentence in place of the browser's.
async function reached(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not answer; see whether it still runs.");
  }
}

async function sentence(answer) {
  try {
    return (await answer.json()).detail;
  } catch {
    return `The service answered ${answer.status}.`;
  }
}
