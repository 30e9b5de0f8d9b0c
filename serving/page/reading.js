// Sending files: small batches one after the other, in order; waits where the server is busy, stops where it is gone.

import { megabytes } from "./words.js";

const AT_ONCE = 8; // images a request: small, so that the first answers are there soon and cancelling is quick
const HEADERS = 16384; // bytes of a request besides its files
const TRIES = 5;
const WAIT = 2; // seconds, where the server does not say how long

/** The server refused, or could not be reached; `status` 0 means that it did not answer. */
export class Refused extends Error {
  constructor(message, status = 0, wait = null) {
    super(message);
    Object.assign(this, { status, wait });
  }
}

/** JSON of an address of this server. Throws Refused with the server's own words. */
export async function asked(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "omit", cache: "no-store", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is serve.py still running?");
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return body;
  const said = body && body.detail;
  const words = typeof said === "string" ? said : `The server answered ${answer.status}.`;
  throw new Refused(words, answer.status, Number(answer.headers.get("Retry-After")) || null);
}

/**
 * Read files in order.
 *
 * @param {File[]} files taken from the front as they are answered: what is left when it stops has not been read.
 * @param {object} limits of a request: max_files and max_bytes, all files together.
 * @param {() => boolean} maps whether heat maps are wanted, asked before each batch.
 * @param {AbortSignal} signal cancels.
 * @param {(results: object[], left: number) => void} take gets the answers of each batch.
 */
export async function read(files, limits, maps, signal, take) {
  while (files.length) {
    const batch = nextBatch(files, limits);
    if (batch.tooLarge) {
      files.shift();
      take([unread(batch.tooLarge, tooLarge(batch.tooLarge, limits.max_bytes))], files.length);
      continue;
    }
    const results = await answered(batch.files, maps(), signal);
    files.splice(0, batch.files.length);
    take(results, files.length);
  }
}

function nextBatch(files, limits) {
  const most = Math.min(AT_ONCE, limits.max_files), room = limits.max_bytes - HEADERS;
  if (files[0].size > room) return { tooLarge: files[0] };
  const chosen = [];
  let bytes = 0;
  for (const file of files.slice(0, most)) {
    bytes += file.size;
    if (bytes > room) break;
    chosen.push(file);
  }
  return { files: chosen };
}

function tooLarge(file, most) {
  return `${file.name}: ${megabytes(file.size)}; this server takes up to ${megabytes(most)} (max_bytes of serve.py).`;
}

/** Answers of a batch; where the server refuses the batch, each file alone, so that one file does not stop the others. */
async function answered(files, maps, signal) {
  try {
    const { results } = await patiently(files, maps, signal);
    return results.map((result, number) => ({ ...result, path: pathOf(files[number]) }));
  } catch (error) {
    if (!(error instanceof Refused) || !refusesTheFile(error.status)) throw error;
    if (files.length === 1) return [unread(files[0], `${files[0].name}: ${error.message}`)];
  }
  const results = [];
  for (const file of files) results.push(...(await answered([file], maps, signal)));
  return results;
}

/** Where it lies below the folder that was dropped; empty for a single file. The server never learns it. */
function pathOf(file) {
  return file.pathBelow || file.webkitRelativePath || "";
}

function refusesTheFile(status) {
  return [400, 413, 415, 422].includes(status);
}

async function patiently(files, maps, signal) {
  for (let attempt = 1; ; attempt += 1) {
    const form = new FormData();
    for (const file of files) form.append("files", file, file.name);
    try {
      return await asked(`api/predict?preview=true&heat_map=${maps}`, { method: "POST", body: form, signal });
    } catch (error) {
      const busy = error instanceof Refused && [429, 503].includes(error.status);
      if (!busy || attempt === TRIES) throw error;
      await pause((error.wait || WAIT) * 1000, signal);
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stopped = () => { clearTimeout(timer); reject(new DOMException("cancelled", "AbortError")); };
    const timer = setTimeout(() => { signal.removeEventListener("abort", stopped); resolve(); }, milliseconds);
    signal.addEventListener("abort", stopped, { once: true });
  });
}

/** An answer for a file that never reached the network, in the form of the server's. */
function unread(file, error) {
  return {
    image_id: file.name, path: pathOf(file), probabilities: null, score: null, calibrated: null, calibrated_probabilities: null,
    decision: null, most_probable: null, borderline: false, p_value: null, reasons: [], error, preview: null, heat_map: null,
  };
}

/** The files of a drop, those of dropped folders too, in the order of their names. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.pathBelow = entry.fullPath.replace(/^\//, "");
    found.push(file);
    return;
  }
  const reader = entry.createReader(), inside = [];
  for (;;) { // a reader gives at most 100 entries at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    inside.push(...some);
  }
  inside.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  for (const one of inside) await walk(one, found);
}
