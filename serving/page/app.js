// The page of serve.py: takes images, shows the answers. It keeps everything in memory and talks to its own server only.

import { card, forget, howToRead, kept, pictures, said } from "./cards.js";
import { csvOf } from "./csv.js";
import { drawModelCard } from "./model.js";
import { asked, dropped, read, Refused } from "./reading.js";
import { drawTable } from "./table.js";
import { decisionOf, el, kindsOf, listed, megabytes, percent, plural, threshold } from "./words.js";

const PAGE = 24; // cards drawn at once; the table shows all
const $ = (id) => document.getElementById(id);

const state = {
  model: null,
  results: [],
  waiting: [], total: 0, // files not yet answered; files since the queue was last empty
  running: null, // AbortController while files are read
  filter: null, shown: PAGE, table: false, large: null,
  sorting: { key: "number", down: false },
};

start();

async function start() {
  tabs();
  intake();
  tools();
  try {
    state.model = await asked("api/model");
  } catch (error) {
    return trouble(`The model could not be loaded. ${error.message}`);
  }
  const { model } = state;
  document.title = `${model.title} \u2013 firstread`;
  $("title").textContent = model.title;
  $("about").textContent = `${model.networks > 1 ? `mean of ${model.networks} networks` : "one trained network"} on this computer`;
  $("notice").textContent = model.notice;
  $("phantom").hidden = !model.phantom;
  $("version").textContent = model.version;
  $("rule").textContent = `${model.positive_called} is called at a score of ${threshold(model.threshold.value)} or more, ` +
    `the threshold locked on validation.`;
  $("accepted").textContent += ` Up to ${megabytes(model.limits.max_bytes)} and ${Math.round(model.limits.max_pixels / 1e6)} megapixels a file.`;
  $("with-maps").checked = $("with-maps").checked && model.heat_maps.available;
  $("with-maps").disabled = !model.heat_maps.available;
  $("slider-box").hidden = !model.heat_maps.available;
  if (!model.heat_maps.available && model.heat_maps.reason) note(`No heat maps: ${model.heat_maps.reason}`);
  $("how-words").replaceChildren(...howToRead(model).filter(Boolean));
  drawModelCard($("panel-card"), model);
  document.body.classList.add("ready");
  if (state.waiting.length) readOn();
}

function trouble(words) {
  $("trouble").textContent = words;
  $("trouble").hidden = false;
}

function note(words) {
  $("maps-note").textContent = words;
  $("maps-note").hidden = !words;
}

function speak(words) {
  $("spoken").textContent = words;
}

// --- tabs: arrow keys, Home and End, as the ARIA practices have it ---

function tabs() {
  const all = [...document.querySelectorAll('[role="tab"]')];
  all.forEach((tab, number) => {
    tab.addEventListener("click", () => showTab(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = all[(to + all.length) % all.length];
      showTab(next);
      next.focus();
    });
  });
}

function showTab(chosen) {
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  }
}

// --- taking files: button, drop anywhere on the page, paste ---

function intake() {
  $("choose").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => {
    take([...$("files").files]);
    $("files").value = "";
  });
  let inside = 0;
  const holdsFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  addEventListener("dragenter", (event) => { if (holdsFiles(event)) $("veil").hidden = !(inside += 1); });
  addEventListener("dragleave", (event) => { if (holdsFiles(event)) $("veil").hidden = (inside = Math.max(0, inside - 1)) === 0; });
  addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  addEventListener("drop", async (event) => {
    inside = 0;
    $("veil").hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    take(await dropped(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => take([...(event.clipboardData?.files || [])]));
  $("cancel").addEventListener("click", () => state.running?.abort());
  $("go-on").addEventListener("click", () => { $("halted").hidden = true; $("choose").focus(); readOn(); });
  $("give-up").addEventListener("click", () => { dropWaiting(); $("choose").focus(); });
}

function take(files) {
  if (!files.length) return;
  showTab($("tab-read"));
  state.waiting.push(...files);
  state.total += files.length;
  $("halted").hidden = true;
  if (state.model && !state.running) readOn();
  else progress();
}

function dropWaiting() {
  state.waiting = [];
  state.total = 0;
  $("halted").hidden = true;
}

async function readOn() {
  if (!state.waiting.length) return;
  state.running = new AbortController();
  const before = state.results.length;
  progress();
  try {
    await read(state.waiting, state.model.limits, () => $("with-maps").checked, state.running.signal, arrived);
    dropWaiting();
    speak(`Done. ${spokenSummary(state.results.slice(before))}`);
  } catch (error) {
    if (error.name === "AbortError") {
      speak(`Cancelled. ${plural(state.waiting.length, "file")} not read.`);
      dropWaiting();
    } else {
      halted(error.message);
      if (!(error instanceof Refused)) console.error(error); // a fault of this page, not of the server
    }
  }
  state.running = null;
  progress();
}

function halted(words) {
  $("halted-words").textContent = `${words} ${plural(state.waiting.length, "file")} not read yet.`;
  $("halted").hidden = false;
}

function progress() {
  const busy = state.running !== null, held = document.activeElement === $("cancel");
  const done = state.total - state.waiting.length;
  $("progress").hidden = !busy;
  $("bar").max = Math.max(1, state.total);
  $("bar").value = done;
  $("progress-words").textContent = state.total === 1 ? "Reading one image" : `Read ${done} of ${plural(state.total, "image")}`;
  if (held && !busy) $("choose").focus(); // the focused button has gone
}

function arrived(answers, left) {
  for (const answer of answers) state.results.push({ number: state.results.length + 1, ...kept(answer, state.model) });
  $("results").hidden = false;
  document.body.classList.add("has-results");
  const done = state.total - left;
  $("bar").value = done;
  $("progress-words").textContent = `Read ${done} of ${plural(state.total, "image")}`;
  draw();
}

// --- results ---

function tools() {
  $("as-cards").addEventListener("click", () => { state.table = false; draw(); });
  $("as-table").addEventListener("click", () => { state.table = true; draw(); });
  $("more").addEventListener("click", () => {
    const first = state.shown;
    state.shown += PAGE;
    draw();
    $("cards").children[first]?.focus();
  });
  $("clear").addEventListener("click", clear);
  $("download").addEventListener("click", download);
  for (const slider of ["strength", "large-strength"]) {
    $(slider).addEventListener("input", () => strength($(slider).value));
  }
  $("large-close").addEventListener("click", () => $("large").close());
  $("large-before").addEventListener("click", () => step(-1));
  $("large-after").addEventListener("click", () => step(1));
  $("large").addEventListener("close", () => state.large?.card?.querySelector(".enlarge")?.focus());
  $("large").addEventListener("click", (event) => { if (event.target === $("large")) $("large").close(); });
}

/** Both sliders show one strength; the style sheet takes it from --heat. */
function strength(value) {
  document.documentElement.style.setProperty("--heat", value / 100);
  for (const slider of [$("strength"), $("large-strength")]) slider.value = value;
  for (const shown of [$("strength-value"), $("large-value")]) shown.textContent = percent(value / 100);
}

function chosen() {
  return state.filter ? state.results.filter((result) => result.kind === state.filter) : state.results;
}

function draw() {
  const results = chosen();
  $("results-title").textContent = `${plural(state.results.length, "result")}`;
  filters();
  $("as-cards").setAttribute("aria-pressed", String(!state.table));
  $("as-table").setAttribute("aria-pressed", String(state.table));
  $("cards").hidden = state.table;
  $("table").hidden = !state.table;
  $("more").hidden = state.table || results.length <= state.shown;
  $("more").textContent = `Show ${Math.min(PAGE, results.length - state.shown)} more of ${results.length}`;
  if (state.table) drawTable($("table"), results, state.model, state.sorting, open);
  else drawCards(results.slice(0, state.shown));
}

/** Cards that are there already stay: focus, unfolded parts and pictures are not lost when more answers come. */
function drawCards(results) {
  const wanted = results.map((result) => (result.card ||= card(result, state.model, enlarge)));
  [...$("cards").children].filter((child) => !wanted.includes(child)).forEach((child) => child.remove());
  wanted.forEach((child, place) => {
    if ($("cards").children[place] !== child) $("cards").insertBefore(child, $("cards").children[place] || null);
  });
}

function filters() {
  const counts = kindsOf(state.model).map(([kind]) => [kind, state.results.filter((result) => result.kind === kind).length]);
  if (!counts.some(([kind, count]) => kind === state.filter && count)) state.filter = null;
  const button = (kind, words) => el("button", { type: "button", class: "chip", "data-kind": kind || "all",
    "aria-pressed": String(state.filter === kind), onclick: () => filterBy(kind) }, words);
  const held = document.activeElement?.closest?.("#filters")  ? document.activeElement.dataset.kind : null;
  $("filters").replaceChildren(button(null, `All ${state.results.length}`),
    ...counts.filter(([, count]) => count).map(([kind, count]) => button(kind, `${decisionOf(kind, state.model)} ${count}`)));
  if (held) $("filters").querySelector(`[data-kind="${held}"]`)?.focus();
}

function filterBy(kind) {
  Object.assign(state, { filter: kind, shown: PAGE });
  draw();
  speak(`${plural(chosen().length, "result")} shown`);
}

function spokenSummary(results) {
  const model = state.model;
  const counts = kindsOf(model).map(([kind]) => [kind, results.filter((result) => result.kind === kind).length]);
  const parts = counts.filter(([, count]) => count).map(([kind, count]) => `${count} ${decisionOf(kind, model)}`);
  return `${plural(results.length, "image")} read: ${listed(parts)}.`;
}

/** From a line of the table to the card of that image. */
function open(result) {
  state.table = false;
  state.shown = Math.max(state.shown, chosen().indexOf(result) + 1);
  draw();
  result.card.focus();
  result.card.scrollIntoView({ block: "center" });
}

function enlarge(result) {
  $("large-name").textContent = result.answer.path || result.answer.image_id;
  $("large-words").replaceChildren(...said(result, state.model).slice(0, 1));
  $("large-pictures").replaceChildren(result.preview ? pictures(result, state.model, null) : "");
  $("large-slider").hidden = !result.maps;
  state.large = result;
  if (!$("large").open) $("large").showModal();
}

/** The picture before or after the enlarged one, in the order of the cards; after the last comes the first. */
function step(by) {
  const all = chosen().filter((result) => result.preview);
  const at = all.indexOf(state.large);
  if (all.length > 1) enlarge(all[(at + by + all.length) % all.length]);
}

function clear() {
  state.running?.abort();
  state.results.forEach(forget);
  Object.assign(state, { results: [], filter: null, shown: PAGE });
  $("cards").replaceChildren();
  $("table").replaceChildren();
  $("results").hidden = true;
  document.body.classList.remove("has-results");
  speak("Cleared.");
  $("choose").focus();
}

function download() {
  const text = csvOf(state.results, state.model);
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "predictions.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  speak(`predictions.csv with ${plural(state.results.length, "line")} downloaded.`);
}
