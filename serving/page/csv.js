// The table to take along: the columns and the very text of predictions.csv, so that nobody has to know where a table came from.

/** All results as CSV, in the form of workflow/prediction_rows.py. Every number reads back as the same double. */
export function csvOf(results, model) {
  const columns = columnsOf(model);
  const lines = [columns.map(([name]) => name), ...results.map(({ answer }) => columns.map(([, value]) => value(answer)))];
  return lines.map((line) => `${line.map(cell).join(",")}\n`).join("");
}

/** Name and value of each column. */
function columnsOf(model) {
  const several = model.classes.length > 2;
  const own = (name) => [name, (answer) => answer[name]];
  const each = (prefix, key) => model.classes.map((name, number) => [prefix + name, (answer) => answer[key]?.[number]]);
  const real = (columns) => columns.map(([name, value]) => [name, (answer) => written(value(answer))]);
  return [
    own("image_id"), own("path"),
    ...real([...each("prob_", "probabilities"), own("score"), [`calibrated_${model.positive_called}`, (answer) => answer.calibrated]]),
    ...(several ? real(each("calibrated_prob_", "calibrated_probabilities")) : []),
    own("decision"),
    ...(several ? [own("most_probable")] : []),
    ["borderline", (answer) => (answer.error ? null : answer.borderline)],
    ...real([own("p_value")]),
    ["abstained_because", (answer) => answer.reasons.join("; ")],
    own("error"),
  ];
}

/** A number as Python writes it: the shortest text that reads back as the same double. */
function written(value) {
  if (value === null || value === undefined) return null;
  if (value !== 0 && Math.abs(value) < 1e-4) return value.toExponential().replace(/e-(\d)$/, "e-0$1");
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}

function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
