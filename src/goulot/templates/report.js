"use strict";
// Tables that sort, and the map of the images. Without this script the page still shows all tables and the map's points.
const UNITS = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

// What a cell comes to: 1,234, 0.42 ± 0.03 or 12 MiB; NaN where it is words.
function number(text) {
  const found = /^([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?: ±.*| ([KMG]i)?B)?$/.exec(text.trim());
  return found ? Number(found[1].replaceAll(",", "")) * (UNITS[`${found[2] ?? ""}B`] ?? 1) : NaN;
}

function sort(table, column, descending) {
  const rows = [...table.tBodies[0].rows];
  const key = (row) => row.cells[column].textContent;
  rows.sort((one, other) => {
    const [a, b] = [key(one), key(other)], [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // what is no number stands last
    const order = Number.isNaN(x) ? a.localeCompare(b) : x - y;
    return descending ? -order : order;
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  if (table.tBodies[0].rows.length < 3) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table, column, descending);
    });
  });
}

function map(figure) {
  const find = (selector) => figure.querySelector(selector);
  const data = JSON.parse(find("script").textContent);
  const [plane, svg, tip, thumb] = [find(".plane"), find("svg"), find(".tip"), find(".thumb")];
  const points = [...figure.querySelectorAll("circle")];
  const places = points.map((point) => [Number(point.getAttribute("cx")), Number(point.getAttribute("cy"))]);
  const order = places.map((_, i) => i).sort((a, b) => places[a][0] - places[b][0]);
  thumb.style.backgroundImage = `url(${data.sprite})`;
  let at = -1;

  function name(by, value) {
    return value === data.colours[by][1].length - 1 ? "test" : `c${value % 8}`;
  }

  function leave() {
    if (at >= 0) points[at].classList.remove("at");
    at = -1;
    tip.hidden = true;
  }

  function show(i) {
    leave();
    at = i;
    points[i].classList.add("at");
    find(".note").textContent = find(".said").textContent = data.notes[i];
    thumb.hidden = i >= data.thumbnails;
    thumb.style.backgroundPosition = `-${(i % data.columns) * data.side}px -${Math.floor(i / data.columns) * data.side}px`;
    tip.hidden = false;
    const [x, y] = places[i].map((value) => (value / 100) * svg.clientWidth);
    tip.style.left = `${Math.max(0, Math.min(x + 12, plane.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${y + 12 + tip.offsetHeight > svg.clientHeight ? y - 12 - tip.offsetHeight : y + 12}px`;
  }

  function paint() {
    const by = Number(find(".by").value), only = find(".only").value;
    const [, names, values] = data.colours[by];
    points.forEach((point, i) => {
      point.setAttribute("class", name(by, values[i]));
      point.classList.toggle("off", only !== "" && Number(only) !== values[i]);
    });
    const present = new Set(values);
    const keys = names.flatMap((text, value) => {
      if (!present.has(value)) return [];
      const key = document.createElement("span");
      key.className = name(by, value);
      key.textContent = text;
      return [key];
    });
    find(".legend").replaceChildren(...keys);
  }

  function choices() {
    const [, names, values] = data.colours[Number(find(".by").value)];
    const present = new Set(values);
    find(".only").replaceChildren(new Option("all", ""), ...names.flatMap((text, i) => (present.has(i) ? [new Option(text, i)] : [])));
    paint();
  }

  function point(event) {
    const box = svg.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) / box.width) * 100, ((event.clientY - box.top) / box.height) * 100];
    let [best, nearest] = [-1, event.pointerType === "touch" ? 36 : 9]; // squares of distances; a finger is wide
    places.forEach(([px, py], i) => {
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < nearest && !points[i].classList.contains("off")) [best, nearest] = [i, distance];
    });
    if (best >= 0 && best !== at) show(best);
    else if (best < 0) leave();
  }

  plane.addEventListener("pointermove", point);
  plane.addEventListener("pointerdown", point);
  plane.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") leave(); // a finger that is lifted leaves what it showed
  });
  plane.addEventListener("blur", leave);
  plane.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step) return;
    event.preventDefault();
    const shown = order.filter((i) => !points[i].classList.contains("off"));
    if (shown.length) show(shown[(shown.indexOf(at) + step + shown.length + (at < 0 && step < 0 ? 1 : 0)) % shown.length]);
  });
  find(".by").addEventListener("change", choices);
  find(".only").addEventListener("change", paint);
  choices();
}

document.querySelectorAll("figure.map").forEach(map);
