"use strict";
const table = document.querySelector("table.studies");
const body = table.tBodies[0];
const rows = [...body.rows].map((row) => ({ row, data: row.dataset, text: row.textContent.toLowerCase() + " " + row.dataset.id.toLowerCase() }));

const compare = (key, a, b) => {
  if (key === "id") return a.data.id.localeCompare(b.data.id, "en", { numeric: true });
  // Studies without a number come last in either direction.
  const [x, y] = [a, b].map((item) => (item.data[key] === "" ? NaN : Number(item.data[key])));
  return x - y;
};
for (const button of table.querySelectorAll("button[data-sort]")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const now = head.getAttribute("aria-sort");
    const next = now === null ? button.dataset.first : now === "descending" ? "ascending" : "descending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", next);
    const key = button.dataset.sort;
    const sign = next === "ascending" ? 1 : -1;
    const empty = (item) => key !== "id" && item.data[key] === "";
    rows.sort((a, b) => empty(a) - empty(b) || (empty(a) ? 0 : sign * compare(key, a, b)) || compare("id", a, b));
    body.append(...rows.map((item) => item.row));
  });
}

const form = document.querySelector("form.filter");
const words = form.querySelector("input");
const kind = form.querySelector("select");
const fits = {
  "": () => true,
  severe: (d) => d.severe > 0,
  moderate: (d) => d.severe > 0 || d.moderate > 0,
  doubtful: (d) => d.doubtful > 0 || d.certain === "0",
  unread: (d) => d.unread > 0,
  failed: (d) => d.failed === "1",
};
const filter = () => {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const { row, data, text } of rows) {
    const shown = fits[kind.value](data) && wanted.every((word) => text.includes(word));
    row.hidden = !shown;
    count += shown;
  }
  form.querySelector("output").textContent = `${count} of ${rows.length}`;
  document.querySelector(".empty").hidden = count > 0;
};
words.addEventListener("input", filter);
kind.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter(); // a browser may keep what was typed before the page was loaded again
