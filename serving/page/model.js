// The tab "Model card": what the model is for, its headline figures with intervals, and what its run knows of it.

import { el, listed, percent, threshold } from "./words.js";

/** Draw the card into `place`. */
export function drawModelCard(place, model) {
  const parts = model.card.filter((part) => part.rows.some((row) => row.text)).sort((a, b) => placeOf(a) - placeOf(b));
  place.replaceChildren(
    el("h2", {}, "Model card"),
    ...headline(model),
    el("div", { class: "cards" }, thresholdCard(model), inputCard(model), aboutCard(model)),
    ...(parts.length ? parts.flatMap(part) : [el("p", { class: "absent" },
      "The rest of the card is in the run's folder, and this model came without one (its report.html has it).")]));
}

/** What the model is for and what its limits are come before how it was made. */
function placeOf({ heading }) {
  return ["Use", "Limits"].includes(heading) ? 0 : 1;
}

function headline(model) {
  if (!model.headline.length) {
    return [el("p", { class: "absent" }, "Headline figures are not known here: the model came without the metrics.json of its run.")];
  }
  return [
    model.headline_about ? el("p", { class: "lead" }, model.headline_about) : null,
    el("dl", { class: "tiles" }, ...model.headline.map(tile)),
  ].filter(Boolean);
}

function tile(figure) {
  const known = figure.value !== null && figure.value !== undefined;
  const range = known && figure.low !== null && figure.low !== undefined;
  return el("div", { class: "tile" },
    el("dt", {}, figure.name),
    el("dd", { class: "big" }, known ? figure.value.toFixed(3) : "\u2013"),
    range ? el("dd", { class: "range" }, `interval (${figure.low.toFixed(3)}\u2013${figure.high.toFixed(3)})`) : null,
    known ? el("dd", { class: "bar-box", "aria-hidden": "true" }, bar(figure, range)) : null,
    figure.meaning ? el("dd", { class: "hint" }, figure.meaning) : null);
}

function bar(figure, range) {
  const dot = el("i", { class: "dot" }), span = range ? el("i", { class: "span" }) : null;
  dot.style.left = `${100 * figure.value}%`;
  if (span) {
    span.style.left = `${100 * figure.low}%`;
    span.style.width = `${100 * (figure.high - figure.low)}%`;
  }
  return el("span", { class: "bar" }, span, dot);
}

function box(title, badge, ...content) {
  return el("div", { class: "card" }, el("h3", {}, title, badge ? el("span", { class: "badge" }, badge) : null),
    ...content.filter(Boolean).map((text) => el("p", {}, text)));
}

function thresholdCard(model) {
  const { value, rule, statement } = model.threshold;
  return box(`Threshold ${threshold(value)}`, `${rule} on validation`, statement,
    model.borderline_from === null || model.borderline_from === undefined ? null
      : `Scores from ${threshold(model.borderline_from)} up to the threshold are marked borderline.`);
}

function inputCard(model) {
  const { fitted, abstains, alpha } = model.input_check;
  const check = !fitted ? "None: it gives a score to any picture, also to one that is nothing it knows."
    : `Each image is compared with those of validation${alpha ? `; about ${percent(alpha)} of images like these are turned away as well` : ""}.`;
  return box("Input check", !fitted ? "none" : abstains ? "on" : "off", check,
    fitted && !abstains ? "It is switched off here: the p-value is shown, and every image gets a decision." : null,
    model.heat_maps.available ? `Heat maps: ${named(model.heat_maps.method)}.` : `No heat maps: ${model.heat_maps.reason || "the network has none"}`);
}

const METHODS = { grad_cam: "Grad-CAM", grad_cam_pp: "Grad-CAM++", hires_cam: "HiRes-CAM" };

function named(method) {
  return METHODS[method] || method;
}

function aboutCard(model) {
  const { image_size: size, channels } = model.input;
  return box("Model", model.networks > 1 ? `mean of ${model.networks}` : null,
    `${model.model}; ${listed(model.classes)}; ${size} x ${size} pixels, ${channels === 1 ? "grey" : "colour"}.`,
    `Trained on ${model.dataset}${model.licence ? ` (${model.licence})` : ""}${model.version ? `, by firstread ${model.version}` : ""}.`);
}

function part({ heading, rows }) {
  const said = rows.filter((row) => row.text);
  const lacking = rows.filter((row) => !row.text).map((row) => row.name.toLowerCase());
  return [
    el("h3", { class: "part" }, heading),
    el("dl", { class: "rows" }, ...said.map((row) => el("div", {}, el("dt", {}, row.name), el("dd", {}, row.text)))),
    lacking.length ? el("p", { class: "quiet" }, `Not filled in: ${listed(lacking)}.`) : null,
  ].filter(Boolean);
}
