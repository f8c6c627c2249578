/** A table as CSV, in the form of the server's own answers (docs/rest.md). Pure. */

/** @typedef {{name: string, columns: string[], rows: any[][]}} Table what is shown; `name` says of what */

/** @param {Table} table @returns {string} a head and a line a row; what is not known is empty */
export function csvOf({ columns, rows }) {
  return [columns, ...rows].map((row) => `${row.map(fieldOf).join(",")}\n`).join("");
}

/** @param {any} value @returns {string} */
function fieldOf(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
