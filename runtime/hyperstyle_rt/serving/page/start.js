// The page of the service: it inverts and renders.

import { begin } from "./app.js";
import { byId } from "./elements.js";
import { ServerEngine } from "./server.js";

function askForToken() {
  const dialog = byId("token-dialog");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(byId("token").value), { once: true });
  });
}

begin(new ServerEngine(askForToken));
