// The page without a server: a worker of it inverts and renders.

import { begin } from "./app.js";
import { BrowserEngine } from "./browser.js";

begin(new BrowserEngine(new URLSearchParams(location.search)));
