// All results as a table that can be sorted by any column.

import { decisionOf, el, kindsOf, mark, NOTHING, probability, score } from "./words.js";

/**
 * The table's columns: key, heading, value to sort by, content of the cell. Empty values come last in either direction.
 */
function columns(model) {
  const order = kindsOf(model).map(([kind]) => kind), several = model.classes.length > 2;
  const number = (key, heading, shown = probability) => ({ key, heading, value: ({ answer }) => answer[key], number: true,
    cell: ({ answer }) => shown(answer[key]) });
  return [
    { key: "number", heading: "#", value: (result) => result.number, number: true, cell: (result) => String(result.number) },
    { key: "path", heading: "image", value: ({ answer }) => answer.path || answer.image_id, head: true },
    { key: "kind", heading: "decision", value: (result) => order.indexOf(result.kind), cell: (result) =>
      el("span", { class: `decision small is-${result.kind}` }, mark(result.kind), el("span", {}, decisionOf(result.kind, model))) },
    number("score", "score", (value) => score(value, model.threshold.value)),
    ...(model.calibrated ? [number("calibrated", "calibrated")] : []),
    ...(several ? [{ key: "most_probable", heading: "most probable", value: ({ answer }) => answer.most_probable,
      cell: ({ answer }) => answer.most_probable || NOTHING }] : []),
    ...(model.input_check.fitted ? [number("p_value", "input check, p")] : []),
    { key: "note", heading: "note", value: note, cell: note, note: true },
  ];
}

function note({ answer }) {
  return answer.error || (answer.reasons || []).join(" ") || null;
}

/** Results in the order of a column; `results` is not changed. */
function ordered(results, column, down) {
  const empty = (value) => value === null || value === undefined;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b) * (down ? -1 : 1);
  return results.map((result) => [column.value(result), result])
    .sort(([a], [b]) => (empty(a) || empty(b) ? Number(empty(a)) - Number(empty(b)) : compare(a, b)))
    .map(([, result]) => result);
}

/**
 * Draw the table into `place`.
 *
 * @param {object} sorting {key, down}; changed by the headings, which draw the table again.
 * @param {(result: object) => void} open called when an image's name is chosen.
 */
export function drawTable(place, results, model, sorting, open) {
  const all = columns(model), chosen = all.find((column) => column.key === sorting.key) || all[0];
  const again = (column) => {
    Object.assign(sorting, { down: sorting.key === column.key ? !sorting.down : false, key: column.key });
    drawTable(place, results, model, sorting, open);
    place.querySelector(`[data-key="${column.key}"]`).focus();
  };
  const heading = (column) => el("th", { scope: "col", class: column.number ? "n" : null,
    "aria-sort": column === chosen ? (sorting.down ? "descending" : "ascending") : null },
    el("button", { type: "button", class: "sort", "data-key": column.key, onclick: () => again(column) }, column.heading,
      el("span", { class: "arrow", "aria-hidden": "true" }, column === chosen ? (sorting.down ? " \u25bc" : " \u25b2") : " \u25b5")));
  const row = (result) => el("tr", {}, ...all.map((column) => cell(column, result, open)));
  place.replaceChildren(el("table", { class: "results-table" },
    el("caption", {}, `Score: ${model.positive.join(" + ")}; threshold ${score(model.threshold.value, model.threshold.value)}. Choose a heading to sort.`),
    el("thead", {}, el("tr", {}, ...all.map(heading))),
    el("tbody", {}, ...ordered(results, chosen, sorting.down).map(row))));
}

function cell(column, result, open) {
  if (!column.head) {
    return el("td", { class: column.number ? "n" : column.note ? "note" : null }, column.cell(result) || NOTHING);
  }
  const thumbnail = result.preview ? el("img", { class: "thumb", src: result.preview, alt: "", loading: "lazy" }) : el("span", { class: "thumb" });
  return el("th", { scope: "row" }, el("button", { type: "button", class: "link id", onclick: () => open(result) }, thumbnail,
    el("span", {}, column.value(result))));
}
