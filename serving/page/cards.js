// One result as a card: pictures, decision in words with its shape, where the score lies, and why a decision was not made.

import { layerOf, objectUrl } from "./heat.js";
import { decisionOf, el, kindOf, listed, mark, percent, probability, score, threshold, upperFirst } from "./words.js";

/** What the page keeps of an answer: the answer without its pictures, and these as object URLs. */
export function kept(answer, model) {
  const { preview, heat_map: heat, ...rest } = answer;
  const result = { answer: rest, kind: kindOf(answer, model), preview: preview && objectUrl(preview), maps: null };
  if (heat) result.maps = withLayer(objectUrl(heat), rest);
  return result;
}

async function withLayer(alone, answer) {
  return { alone, layer: await layerOf(alone, ratio(answer)) };
}

function ratio({ width, height }) {
  return width && height ? width / height : 1;
}

/** Frees the pictures of a result. */
export async function forget(result) {
  if (result.preview) URL.revokeObjectURL(result.preview);
  const maps = await result.maps;
  if (maps) [maps.alone, maps.layer].filter(Boolean).forEach((url) => URL.revokeObjectURL(url));
}

/** The card, a list item. `enlarge` is called with the result when its picture is chosen. */
export function card(result, model, enlarge) {
  const { answer, kind } = result, id = `result-${result.number}`;
  return el("li", { class: `answer is-${kind}`, id, tabindex: "-1", "aria-labelledby": `${id}-name` },
    result.preview ? pictures(result, model, enlarge) : null,
    el("div", { class: "answer-words" },
      el("h3", { class: "id", id: `${id}-name` }, answer.path || answer.image_id),
      ...said(result, model)));
}

/** The words of a result, for its card and for the enlarged view. */
export function said(result, model) {
  const { answer, kind } = result;
  if (kind === "unreadable") return [decided(kind, model), el("p", {}, answer.error)];
  return [
    decided(kind, model),
    ...(kind === "abstained" ? turnedAway(answer, model) : []),
    kind === "borderline" ? el("p", { class: "why" }, borderlineWords(model)) : null,
    el("div", { class: kind === "abstained" ? "unsure" : "" }, ...scored(answer, model, kind)),
  ];
}

function decided(kind, model) {
  return el("p", { class: `decision is-${kind}` }, mark(kind), el("strong", {}, decisionOf(kind, model)));
}

function turnedAway(answer, model) {
  const { p_value: p, reasons } = answer, { alpha } = model.input_check;
  const rare = p === null || p === undefined ? null
    : el("p", { class: "quiet" }, `p of the input: ${probability(p)}${alpha ? ` (by itself a reason below ${alpha})` : ""}`);
  return [el("p", { class: "why" }, "This does not look like what the model knows:"),
    el("ul", { class: "why" }, ...reasons.map((reason) => el("li", {}, upperFirst(reason)))), rare];
}

export function borderlineWords(model) {
  return `Below the threshold, but at ${threshold(model.borderline_from)}, the threshold for a higher recall, it would be called ` +
    `${model.positive_called}. This is where missed ones tend to lie.`;
}

function scored(answer, model, kind) {
  const limit = model.threshold.value, several = model.classes.length > 2;
  const above = answer.score >= limit;
  const words = el("p", { class: "score" },
    el("b", { class: "number" }, score(answer.score, limit)), ` ${scoreOf(model)} `,
    el("span", { class: "quiet" }, kind === "abstained" ? "(not to be relied on)" : above ? "at or above the threshold" : "below the threshold"));
  const recalibrated = model.calibrated && kind !== "abstained" && answer.calibrated !== null && answer.calibrated !== undefined
    ? el("p", { class: "quiet calibrated" }, "calibrated probability ", el("b", { class: "number" }, probability(answer.calibrated)))
    : null;
  return [words, gauge(answer.score, model), recalibrated, several ? classes(answer, model) : null];
}

/** What the score is the probability of: the one positive class, or several together. */
function scoreOf(model) {
  return model.positive.length === 1 ? `for ${model.positive[0]}` : `for ${listed(model.positive, "or")} together`;
}

/** A bar with the threshold and, hatched, the borderline region; the same is said in words beside it. */
function gauge(value, model) {
  const limit = model.threshold.value, from = model.borderline_from, [at, ends] = scaleOf(limit);
  const fill = el("i", { class: `fill ${value >= limit ? "over" : "under"}` }), tick = el("i", { class: "limit" });
  const label = el("span", { class: "limit-label" }, `threshold ${threshold(limit)}`);
  fill.style.width = `${at(value)}%`;
  tick.style.left = `${at(limit)}%`;
  label.style.left = `${Math.min(Math.max(at(limit), 21), 79)}%`;
  const region = from === null || from === undefined ? null : el("i", { class: "region" });
  if (region) {
    region.style.left = `${at(from)}%`;
    region.style.width = `${at(limit) - at(from)}%`;
  }
  return el("div", { class: "gauge", "aria-hidden": "true" },
    el("div", { class: "track" }, region, fill, tick),
    el("div", { class: "scale" }, el("span", {}, ends[0]), label, el("span", {}, ends[1])));
}

/**
 * Where a score lies on the bar, in percent, and what stands at its two ends. In log-odds where the threshold is so near 0
 * or 1 that nothing could be told apart there: the scale of the pages of predict.py.
 */
function scaleOf(limit) {
  if (limit >= LINEAR && limit <= 1 - LINEAR) return [(value) => 100 * value, ["0", "1"]];
  const odds = (value) => Math.log(Math.max(value, 1e-12) / Math.max(1 - value, 1e-12));
  const end = Math.max(ODDS_END, Math.abs(odds(limit)) + 1);
  const ends = [-end, end].map((value) => threshold(1 / (1 + Math.exp(-value))));
  return [(value) => Math.min(Math.max(50 + (50 * odds(value)) / end, 0), 100), ends];
}

const LINEAR = 0.03;
const ODDS_END = Math.log(9999);
const SHOWN = 3;

function classes(answer, model) {
  const order = answer.probabilities.map((value, number) => [value, number]).sort((a, b) => b[0] - a[0]);
  const line = ([value, number]) => {
    const fill = el("i", { class: `fill ${model.positive.includes(model.classes[number]) ? "over" : "under"}` });
    fill.style.width = `${100 * value}%`;
    return el("li", {}, el("span", { class: "class-name" }, model.classes[number]),
      el("span", { class: "thin", "aria-hidden": "true" }, fill), el("span", { class: "number" }, probability(value)));
  };
  return el("div", { class: "classes-of" },
    el("p", { class: "quiet" }, `most probable: `, el("b", {}, answer.most_probable)),
    el("ol", { class: "class-bars" }, ...order.slice(0, SHOWN).map(line)),
    order.length > SHOWN ? el("details", {}, el("summary", {}, `${order.length - SHOWN} more classes`),
      el("ol", { class: "class-bars" }, ...order.slice(SHOWN).map(line))) : null);
}

/** The image with the heat map over it, and the map alone beside it. `enlarge` null: not as a button. */
export function pictures(result, model, enlarge) {
  const { answer } = result, name = answer.path || answer.image_id;
  const over = el("span", { class: "stack" }, el("img", { src: result.preview, alt: enlarge ? "" : `Image ${name}`, loading: "lazy" }));
  const first = el("figure", {},
    enlarge ? el("button", { type: "button", class: "enlarge", "aria-label": `Enlarge ${name}`, onclick: () => enlarge(result) }, over) : over,
    el("figcaption", {}, result.maps ? "heat map over the image" : "image"));
  const row = el("div", { class: "pictures" }, first);
  row.style.setProperty("--ratio", ratio(answer)); // the network sees the whole image squashed: its map is stretched back
  if (result.maps) result.maps.then((maps) => addMaps(row, first, over, maps, name, model)).catch(() => mapless(first, "image (its heat map could not be drawn)"));
  else if (answer.heat_map_reason) mapless(first, `image; no heat map: ${answer.heat_map_reason}`);
  return row;
}

function mapless(figure, words) {
  figure.querySelector("figcaption").textContent = words;
}

function addMaps(row, figure, over, maps, name, model) {
  if (!maps.layer) return mapless(figure, `image; the heat map is empty: nothing in it speaks for ${spokenFor(model)}`);
  over.append(el("img", { class: "heat", src: maps.layer, alt: "" }));
  row.append(el("figure", {},
    el("span", { class: "stack" }, el("img", { src: maps.alone, alt: `Heat map of ${name} alone` })),
    el("figcaption", {}, "heat map alone")));
}

/** What the heat maps speak for: the positive answer unless serve.py was told another class. */
function spokenFor(model) {
  const { target } = model.heat_maps;
  return !target || target === "positive" ? model.positive_called : target;
}

/** What each kind of answer means, for "How to read an answer". */
export function howToRead(model) {
  const points = [
    ["positive", model.threshold.statement || `The score is at or above the locked threshold ${threshold(model.threshold.value)}.`],
    ["negative", "The score is below the threshold."],
  ];
  if (model.borderline_from !== null) points.push(["borderline", borderlineWords(model)]);
  if (model.input_check.fitted) {
    const share = model.input_check.alpha ? ` About ${percent(model.input_check.alpha)} of images like those of validation are turned away too.` : "";
    points.push(["abstained", `The image does not look like those the model was trained on, so its score says nothing.${share}`]);
  }
  points.push(["unreadable", "The file is no picture that can be read; the others are read all the same."]);
  const list = el("ul", { class: "key" }, ...points.map(([kind, words]) => el("li", { class: `is-${kind}` }, mark(kind),
    el("span", {}, el("strong", {}, decisionOf(kind, model)), ` ${words}`))));
  const missing = model.input_check.fitted ? null : el("p", {},
    "This model has no input check: it gives a score to any picture, also to one that is nothing it knows.");
  return [list, missing, el("p", {}, model.calibrated
    ? "The calibrated probability is the score corrected on validation. It holds where classes are as frequent as there."
    : "The scores are not calibrated: read them as a ranking, not as risks."),
    model.threshold.value >= LINEAR && model.threshold.value <= 1 - LINEAR ? null : el("p", {}, "The bars are in log-odds, because the threshold is so near an end."),
    el("p", {}, `A heat map shows where in the image the network found what speaks for ${spokenFor(model)}, brighter for more, relative to ` +
    "its own image. It does not show that the reason is a sound one, and it is no outline of a finding.")];
}
