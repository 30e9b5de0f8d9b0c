// How the page writes: elements, numbers as the report writes them, and what an answer is called.

const NARROW = "\u202f";
export const NOTHING = "\u2013";

/** An element with attributes and children; a child that is text becomes a text node, so nothing is ever read as HTML. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** `0.953`, `< 0.001`, `> 0.999`; a dash where there is no value. */
export function probability(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value < 0.001) return `<${NARROW}0.001`;
  return value > 0.999 ? `>${NARROW}0.999` : value.toFixed(3);
}

/** A score with as many digits as show on which side of the threshold it lies. */
export function score(value, threshold) {
  if (value === null || value === undefined) return NOTHING;
  const above = value >= threshold;
  for (let digits = 3; digits < 8; digits += 1) {
    const written = Number(value.toFixed(digits)), limit = Number(threshold.toFixed(digits));
    if (above ? written >= limit && !(written === limit && value !== threshold) : written < limit) {
      return digits === 3 ? probability(value) : value.toFixed(digits);
    }
  }
  return String(value);
}

/** A threshold with three decimals, or with the two digits that tell it from 0 or 1 where it is nearer. */
export function threshold(value) {
  if ([0, 0.5, 1].includes(value)) return String(value);
  const distance = Math.min(value, 1 - value);
  if (distance >= 0.01) return value.toFixed(3);
  return value.toFixed(Math.ceil(-Math.log10(Math.max(distance, 1e-12))) + 1);
}

/** `95 %`, `95.3 %`: with one decimal unless that is 0. */
export function percent(share) {
  return `${Number((100 * share).toFixed(1))}${NARROW}%`;
}

/** `1 image`, `1,200 images`. */
export function plural(count, noun) {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

/** `a`, `a and b`, `a, b and c`; with `or` on request. */
export function listed(names, word = "and") {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} ${word} ${names[names.length - 1]}`;
}

/** `20 MB`. */
export function megabytes(bytes) {
  return `${Number((bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0))} MB`;
}

/** What kind of answer it is: positive, borderline, negative, abstained or unreadable. */
export function kindOf(answer, model) {
  if (answer.error) return "unreadable";
  if (answer.decision === "abstain") return "abstained";
  if (answer.decision === model.positive_called) return "positive";
  return answer.borderline ? "borderline" : "negative";
}

/** The kinds in the order of the page, with the decision in words for each, as on the pages of predict.py. */
export function kindsOf(model) {
  return [
    ["positive", upperFirst(model.positive_called)],
    ["borderline", `${upperFirst(model.negative_called)}, borderline`],
    ["negative", upperFirst(model.negative_called)],
    ["abstained", "No decision"],
    ["unreadable", "Not readable"],
  ];
}

/** The decision in words. */
export function decisionOf(kind, model) {
  return Object.fromEntries(kindsOf(model))[kind];
}

/** `Malignant` for `malignant`; other letters stay as they are. */
export function upperFirst(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const RING = "M10 2.4a7.6 7.6 0 1 0 .01 0z";

// Each kind has a shape of its own, so that nothing hangs on colour: a filled triangle, a half-filled diamond, a ring with
// a bar in it (a minus), a dashed ring with a question mark, a cross. They are those of the pages of predict.py.
const SHAPES = {
  positive: [["M10 2.2 18.6 17.4H1.4z"]],
  borderline: [["M10 1.8 18.2 10 10 18.2 1.8 10z", "line"], ["M10 1.8v16.4L1.8 10z"]],
  negative: [[RING, "line"], ["M6.2 10h7.6", "line"]],
  abstained: [[RING, "line dashed"], ["M7.6 7.8a2.5 2.5 0 1 1 3.4 2.3c-.7.3-1 .7-1 1.6", "line"], ["M10 12.85a1.15 1.15 0 1 0 .01 0z"]],
  unreadable: [["M4 4l12 12M16 4 4 16", "line"]],
};

/** The mark of a kind, drawn; hidden from screen readers because the words stand beside it. */
export function mark(kind) {
  const drawn = svg("svg", { viewBox: "0 0 20 20", class: "sign", "aria-hidden": "true", focusable: "false" });
  drawn.append(...SHAPES[kind].map(([d, line]) => svg("path", line ? { d, class: line } : { d })));
  return drawn;
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
