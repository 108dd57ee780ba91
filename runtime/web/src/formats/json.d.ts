// What strict JSON holds; a type that refers to itself cannot be written in JSDoc.

import type { WholeFloat } from "./strict_json.js";

export type Json = null | boolean | number | WholeFloat | string | Json[] | { [key: string]: Json };
