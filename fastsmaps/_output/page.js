"use strict";
// The page: header, tabs, size switch, search, path bar, and the table. treemap.js and course.js
// draw the pictures. Texts come from processes: they only ever become text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const NAMES = { pss: "Pss", uss: "Uss", rss: "Rss", swap: "Swap", size: "Size", peak_rss: "VmHWM" };
const MAX_ROWS = innerWidth > 1000 ? 200 : 50; // of a table, until all are asked for
const state = { view: data.views[0], at: null, size: 0, by: "kind", query: "", sort: "size", down: true, all: false };

/** Make an element; a child that is no element becomes text. */
function el(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "class") element.className = value;
    else if (name === "fill") value && element.style.setProperty("--fill", `var(--${value})`);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true || value === false) element.toggleAttribute(name, value);
    else if (value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== ""));
  return element;
}

/** A size in KiB as fastsmaps._model.sizes.human() shows it; null is unknown, which is not 0. */
function human(kib) {
  if (kib == null) return "-";
  if (Math.abs(kib) < 1) return kib ? `${kib * 1024} B` : "0";
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(kib) >= 1023.95 && unit < 3) { kib /= 1024; unit += 1; }
  const text = kib.toFixed(1);
  return `${unit ? text : text.replace(".0", "")} ${units[unit]}`;
}

function percent(part, whole) {
  if (part == null || !whole) return "";
  const share = 100 * part / whole;
  return share > 0 && share < 0.05 ? "<0.1 %" : `${share.toFixed(share < 9.95 && share > 0 ? 1 : 0)} %`;
}

const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : what.endsWith("h") ? "es" : "s"}`;

// ---- the data: nodes with sizes and parts

const last = (text) => (text.startsWith("/") ? text.slice(text.lastIndexOf("/") + 1) || text : text);
const values = (row) => data.sizes.map((_, i) => row[i] ?? null);

/** Add the sizes of a part; what is unknown adds nothing. */
function add(sums, v) {
  v.forEach((value, i) => { if (value != null) sums[i] = (sums[i] ?? 0) + value; });
}

const makeNode = (name, full, fill) => ({ name, full, fill, v: values([]), kids: null });

/** The part of that key, which is made if it does not exist. */
function part(node, key, name, full, fill) {
  node.parts ??= new Map();
  if (!node.parts.has(key)) node.parts.set(key, makeNode(name, full, fill));
  return node.parts.get(key);
}

/** Nest rows [path, kind, sizes, use, range] by kind or use, then by path, then by range. */
function nest(rows) {
  const root = makeNode("", "", "");
  for (const [path, kind, sizes, use, range] of rows) {
    const fill = data.kinds[kind], v = values(sizes), full = data.texts[path];
    const group = state.by === "use" ? data.texts[use ?? 0] || "small parts" : data.legend[fill];
    let node = part(root, group, group, "", fill);
    add(node.v, v);
    if (path < 0) {
      node = part(node, -1, "", "", fill);
      node.merged = (node.merged ?? 0) - path;
      node.name = `${node.merged.toLocaleString("en")} smaller`;
    } else if (path || !range) node = part(node, path, last(full) || "(no name)", full, fill);
    if (path || !range) add(node.v, v);
    if (range) add(part(node, `r${range}`, data.texts[range], full ?? "", fill).v, v);
  }
  return finish(root).kids;
}

/** Turn the maps of parts into lists; a single part without a name is what it belongs to. */
function finish(node) {
  if (node.parts && !(node.parts.size === 1 && node.parts.has(0) && !node.parts.get(0).parts)) {
    node.kids = [...node.parts.values()].map(finish);
  }
  delete node.parts;
  return node;
}

const fileNode = ([path, kind, sizes, n]) => ({ ...makeNode(last(data.texts[path]), data.texts[path], data.kinds[kind]), v: values(sizes), n: n || null });

function processNode([pid, label, command, , status, sizes, parts], i) {
  const user = data.groups.user ? data.texts[data.groups.user[i]] : "";
  const note = [`pid ${pid}`, user, status].filter(Boolean).join(" · ");
  return { name: data.texts[label], full: data.texts[command], note, fill: "", v: values(sizes),
    kids: parts.length ? nest(parts) : null };
}

const emptyGroup = (name) => ({ name, full: "", fill: "", v: values([]), kids: [], n: 0 });

function grouped(keys) {
  const groups = new Map();
  data.processes.forEach((row, i) => {
    const key = data.texts[keys[i]];
    if (!groups.has(key)) groups.set(key, emptyGroup(key));
    const group = groups.get(key), node = processNode(row, i);
    group.kids.push(node);
    group.n += 1;
    add(group.v, node.v);
  });
  return [...groups.values()];
}

/** Processes below their parents, each with the sums of its tree. Parents come first in the data. */
function trees() {
  const own = data.processes.map(processNode), nodes = [...own], roots = [];
  for (let i = own.length - 1; i >= 0; i -= 1) {
    const parent = data.processes[i][3];
    if (parent < 0) { roots.push(nodes[i]); continue; }
    if (!nodes[parent].tree) {
      const root = own[parent];
      nodes[parent] = { ...root, v: [...root.v], kids: [], n: 1, tree: true };
      nodes[parent].kids.push({ ...root, name: `${root.name}, itself` });
    }
    nodes[parent].kids.push(nodes[i]);
    nodes[parent].n += nodes[i].n ?? 1;
    add(nodes[parent].v, nodes[i].v);
  }
  return roots;
}

/** The root of a view, made at its first use. */
function rootOf(view) {
  if (!view.root || view.nested !== state.by) {
    view.nested = state.by;
    const kids = view.files ? view.files.map(fileNode)
      : view.parts ? nest(view.parts)
      : view.by === "parent" ? trees()
      : view.by ? grouped(data.groups[view.by]) : data.processes.map(processNode);
    const v = values([]);
    kids.forEach((kid) => add(v, kid.v));
    view.root = { name: view.all, full: "", fill: "", v, kids };
    const waiting = [view.root];
    for (const node of waiting) node.kids?.forEach((kid) => { kid.up = node; waiting.push(kid); });
  }
  return view.root;
}

const sizeOf = (node) => node.v[state.size];
const text = (node) => (node.text ??= `${node.name}\n${node.full}\n${node.note ?? ""}`.toLowerCase());

/** The topmost parts that match the search, so that no memory counts twice. */
function matches(node) {
  const found = [], waiting = [...(node.kids ?? [])];
  while (waiting.length) {
    const part = waiting.pop();
    if (text(part).includes(state.query)) found.push(part);
    else if (part.kids) waiting.push(...part.kids);
  }
  return found;
}

// ---- the text under the pointer

const tip = el("div", { id: "tip", role: "tooltip", hidden: true });

/** Show lines beside the place: [name, value] pairs below a title and a text. */
function showTip(title, text, lines, x, y) {
  tip.replaceChildren(el("b", null, title), text && text !== title ? el("p", null, text) : "",
    ...lines.map(([name, value]) => el("div", null, el("span", null, name), el("span", null, value))));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? Math.max(8, y - height - 12) : y + 18}px`;
}

function showNode(node, x, y) {
  const whole = sizeOf(rootOf(state.view));
  const lines = data.sizes.map((name, i) => [NAMES[name], human(node.v[i])]);
  lines.push([`of all ${NAMES[data.sizes[state.size]]}`, percent(sizeOf(node), whole)]);
  if (node.n > 1) lines.push(["processes", node.n.toLocaleString("en")]);
  showTip(node.name, [node.note, node.full].filter(Boolean).join("\n"), lines, x, y);
}

// ---- moving around

const visited = [];

function go(view, at, remember = true) {
  const isShown = view === state.view && parts.isConnected;
  Object.assign(state, { view, at, all: false });
  tip.hidden = true;
  if (remember) {
    visited.push([view, at]);
    // A page in a notebook's frame has no history of its own.
    try { history.pushState(visited.length - 1, ""); } catch { /* then Back leaves the page */ }
  }
  if (isShown) drawParts(); else draw();
}

addEventListener("popstate", ({ state: i }) => {
  const [view, at] = visited[i ?? 0] ?? visited[0];
  go(view, at, false);
});

/** Nest the parts of processes by kind or use, and stay at the same process. */
function nestBy(by) {
  const names = [];
  for (let node = state.at; node.up; node = node.up) names.unshift(node);
  state.by = by;
  state.at = rootOf(state.view);
  for (const { name, note } of names) {
    const next = state.at.kids?.find((kid) => kid.name === name && kid.note === note && kid.kids);
    if (!next) break;
    state.at = next;
  }
  visited.splice(0, visited.length - 1); // they are of the other nesting
  visited[0] = [state.view, state.at];
  try { history.replaceState(0, ""); } catch { /* see go() */ }
  drawParts();
}

/** Open a part, or what a part without parts belongs to. */
function open(node) {
  const target = node.kids?.length ? node : node.up;
  if (target && target !== state.at) go(state.view, target);
}

// ---- the parts of the page

function drawTabs() {
  if (data.views.length < 2) return "";
  return el("nav", { class: "tabs", "aria-label": "views" }, ...data.views.map((view) =>
    el("button", { type: "button", "aria-current": view === state.view ? "page" : null,
      onclick: () => go(view, view.course || view.host ? null : rootOf(view)) }, view.name)));
}

function drawBar() {
  const search = el("input", { class: "search", type: "search", placeholder: "Search names and paths",
    "aria-label": "search names and paths", autocomplete: "off", spellcheck: "false",
    oninput: () => { state.query = search.value.trim().toLowerCase(); state.all = false; drawParts(); } });
  search.value = state.query;
  const choose = (target) => {
    for (const other of target.parentNode.children) other.setAttribute("aria-pressed", String(other === target));
  };
  const ways = ["kind", "use"].map((by) => el("button", { type: "button", "aria-pressed": String(by === state.by),
    onclick: ({ target }) => { choose(target); nestBy(by); } }, `by ${by}`));
  const sizes = data.sizes.map((name, i) => el("button", { type: "button", "aria-pressed": String(i === state.size),
    onclick: (event) => {
      state.size = i;
      choose(event.target);
      drawParts();
    } }, NAMES[name]));
  return el("div", { class: "bar" },
    el("div", { class: "switch", role: "group", "aria-label": "size to show" }, ...sizes),
    data.uses && !state.view.files ? el("div", { class: "switch", role: "group", "aria-label": "parts of a process" }, ...ways) : "", search,
    el("span", { class: "found", id: "found", role: "status" }));
}

function drawCrumbs() {
  const path = [];
  for (let node = state.at; node; node = node.up) path.unshift(node);
  const parts = path.flatMap((node, i) => [
    i ? el("i", { "aria-hidden": "true" }, "›") : "",
    node === state.at ? el("b", { "aria-current": "location" }, node.name)
      : el("button", { type: "button", onclick: () => go(state.view, node) }, node.name)]);
  const whole = sizeOf(rootOf(state.view)), name = NAMES[data.sizes[state.size]];
  const share = state.at.up ? `, ${percent(sizeOf(state.at), whole)} of all` : "";
  const { full, note } = state.at;
  return el("nav", { class: "crumbs", "aria-label": "path" }, ...parts,
    el("i", null, `${note ? `${note} · ` : ""}${name} ${human(sizeOf(state.at))}${share}`),
    full && full !== state.at.name ? el("code", null, full) : "");
}

const SORTS = { name: (node) => node.name.toLowerCase(), n: (node) => node.n ?? null, size: sizeOf };

function sorted(nodes) {
  const key = SORTS[state.sort] ?? ((node) => node.v[state.sort]);
  const known = nodes.filter((node) => key(node) != null), sign = state.down ? -1 : 1;
  known.sort((a, b) => (key(a) < key(b) ? -sign : key(a) > key(b) ? sign : 0));
  return known.concat(nodes.filter((node) => key(node) == null));
}

/** Where a match is, below the place that is shown. */
function where(node) {
  const names = [];
  for (let up = node.up; state.query && up && up !== state.at; up = up.up) names.push(up.note ? `${up.name} ${up.note}` : up.name);
  return names.length ? `in ${names.at(-1)}` : "";
}

function drawTable(nodes) {
  const counted = state.view.count && nodes.some((node) => node.n != null);
  const on = (i) => (i === state.size ? "size on" : "size");
  // A column without a value says nothing: on most hosts nothing is swapped.
  const used = data.sizes.map((_, i) => i).filter((i) => rootOf(state.view).v[i] || i === state.size);
  const columns = [["name", "Name", ""], ...(counted ? [["n", state.view.count, "count"]] : []),
    ...used.map((i) => [i, NAMES[data.sizes[i]], on(i)]), ["size", "%", "share"]];
  const active = (key) => key === state.sort || (state.sort === "size" && key === state.size);
  const whole = sizeOf(state.at);
  const row = (node, name, kind) => el("tr", { class: kind },
    el("td", null, node.fill ? el("i", { fill: node.fill }) : "", name, el("small", null, ` ${[node.note, where(node)].filter(Boolean).join(" ")}`)),
    ...(counted ? [el("td", null, node.n?.toLocaleString("en"))] : []),
    ...used.map((i) => el("td", { class: on(i) }, human(node.v[i]))),
    el("td", null, percent(sizeOf(node), whole)));
  const ordered = sorted(nodes), shown = state.all ? ordered : ordered.slice(0, MAX_ROWS);
  const body = el("tbody");
  const total = { v: values([]), name: "total", n: null };
  nodes.forEach((node) => add(total.v, node.v));
  // One process maps many files.
  if (counted && state.view.by) total.n = nodes.reduce((sum, node) => sum + (node.n ?? 1), 0);
  body.append(row(total, state.query ? "total of matches" : "total", "total"));
  for (const node of shown) {
    const label = node.kids?.length ? el("button", { type: "button", onclick: () => open(node) }, node.name) : node.name;
    const line = row(node, label, "");
    line.node = node;
    body.append(line);
  }
  const head = columns.map(([key, name, kind]) => el("th", { class: kind, scope: "col",
    "aria-sort": active(key) && name !== "%" ? (state.down ? "descending" : "ascending") : null },
    el("button", { type: "button", onclick: () => {
      state.down = active(key) ? !state.down : key !== "name";
      state.sort = key === state.size ? "size" : key;
      drawParts();
    } }, name)));
  const table = el("table", null, el("colgroup", null, ...columns.map(([, , kind]) => el("col", { class: kind }))),
    el("thead", null, el("tr", null, ...head)), body);
  body.addEventListener("pointerover", ({ target, clientX, clientY }) => {
    const node = target.closest("tr")?.node;
    mark(node);
    if (node) showNode(node, clientX, clientY); else tip.hidden = true;
  });
  body.addEventListener("pointerleave", () => { mark(null); tip.hidden = true; });
  const more = ordered.length - shown.length;
  return el("div", { class: "rows", tabindex: "0", role: "region", "aria-label": "table" }, table,
    more ? el("button", { class: "all", type: "button", onclick: () => { state.all = true; drawParts(); } },
      `Show ${more.toLocaleString("en")} more`) : "");
}

/** Mark a node in the picture and in the table. */
function mark(node) {
  for (const element of document.querySelectorAll(".hot")) element.classList.remove("hot");
  if (!node) return;
  for (const element of document.querySelectorAll(".tile, tbody tr")) {
    if (element.node === node) element.classList.add("hot");
  }
}

function drawLegend() {
  const used = new Set(), waiting = [rootOf(state.view)];
  for (const node of waiting) { if (node.fill) used.add(node.fill); waiting.push(...(node.kids ?? [])); }
  const kinds = data.kinds.filter((kind) => used.has(kind));
  return el("ul", { class: "legend", "aria-label": "colours" },
    ...kinds.map((kind) => el("li", null, el("i", { fill: kind }), data.legend[kind])),
    data.processes && data.sizes[state.size] === "rss" ? el("li", null, "Rss counts a shared page in each process: its sum is more than the memory in use.") : "");
}

/** Draw what depends on the size, the search and the place. */
function drawParts() {
  const found = state.query ? matches(state.at) : null;
  const sum = values([]);
  found?.forEach((node) => add(sum, node.v));
  document.getElementById("found").textContent = found
    ? `${count(found.length, "match")}, ${NAMES[data.sizes[state.size]]} ${human(sum[state.size] ?? 0)}` : "";
  const map = el("div", { class: "map", role: "group",
    "aria-label": "treemap: arrow keys move, Enter opens, Backspace goes back" });
  const active = document.activeElement, inside = parts.contains(active);
  const column = inside ? active.closest("th")?.cellIndex : undefined;
  parts.replaceChildren(drawCrumbs(), el("div", { class: "both" },
    el("div", null, map, drawLegend()), drawTable(found ?? state.at.kids ?? [])));
  drawMap(map, found);
  // What had the focus is gone: whoever uses the keyboard goes on from here.
  const next = column === undefined ? ".tile" : `th:nth-child(${column + 1}) button`;
  if (inside) parts.querySelector(next)?.focus({ preventScroll: true });
}

const parts = el("div");

function draw() {
  const { view } = state, inTabs = document.activeElement?.closest(".tabs");
  main.replaceChildren(drawTabs());
  if (inTabs) main.querySelector("[aria-current]").focus();
  if (view.host) main.append(...drawHost(view.host));
  else if (view.course) main.append(...drawCourse(view.course));
  else { main.append(drawBar(), parts); drawParts(); }
}

// ---- the overview of a host

function table(head, rows, kind = "text") {
  const cls = (i) => (head[i].startsWith("#") ? "size" : "");
  return el("div", { class: "rows whole" }, el("table", { class: kind },
    el("thead", null, el("tr", null, ...head.map((name, i) => el("th", { scope: "col", class: cls(i) }, name.replace("#", ""))))),
    el("tbody", null, ...rows.map((row) => el("tr", null, ...row.map((cell, i) => el("td", { class: cls(i) }, cell)))))));
}

function drawHost({ cards, memory, unread, meminfo }) {
  const whole = memory.reduce((sum, [, kib]) => sum + kib, 0);
  const stack = memory.map(([name, kib, fill, about]) => {
    const part = el("div", { fill }, kib > 0.06 * whole ? name : "");
    part.style.flexGrow = kib;
    part.style.flexBasis = 0;
    part.addEventListener("pointermove", (event) => showTip(name, about, [["size", human(kib)], ["of all", percent(kib, whole)]], event.clientX, event.clientY));
    part.addEventListener("pointerleave", () => { tip.hidden = true; });
    return part;
  });
  const section = (title, ...content) => el("section", null, el("h2", null, title), ...content);
  return [
    el("div", { class: "cards" }, ...cards.map(([name, value, more]) =>
      el("div", null, el("span", null, name), el("b", null, value), el("span", null, more)))),
    ...(memory.length ? [section("What fills the memory", el("div", { class: "stack", "aria-hidden": "true" }, ...stack))] : []),
    el("div", { class: "pair" },
      memory.length ? section("By purpose", table(["Memory", "#Size", "#%"], memory.map(([name, kib, fill, about]) =>
        [el("span", null, el("i", { fill }), name, el("small", null, ` ${about}`)), human(kib), percent(kib, whole)]))) : "",
      section("What could not be read", unread.length ? table(["Outcome", "#Processes", "Why"], unread)
        : el("p", { class: "note" }, "Every process that has memory was read.")),
      meminfo.length ? el("details", null, el("summary", null, "/proc/meminfo"), table(["Name", "#Size"],
        meminfo.map(([name, kib]) => [name, typeof kib === "string" ? kib : human(kib)]))) : ""),
  ];
}

// ---- the whole page

const main = el("main");

function start() {
  const themes = ["auto", "light", "dark"];
  const theme = el("button", { class: "quiet", type: "button", onclick: () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    theme.textContent = `Theme: ${next}`;
  } }, "Theme: auto");
  document.body.append(
    el("header", null, el("div", null, el("h1", null, data.title),
      el("dl", { class: "facts" }, ...data.facts.map(([name, value]) => el("div", null, el("dt", null, name),
        el("dd", null, name === "Command" ? el("code", null, value) : value))))), theme),
    ...data.notes.map((note) => el("p", { class: "note" }, note)),
    main, el("footer", null, data.footer), tip);
  addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !typing) { event.preventDefault(); document.querySelector(".search")?.focus(); }
    if (event.key === "Escape" && typing) { event.target.value = state.query = ""; drawParts(); }
    else if ((event.key === "Backspace" || event.key === "Escape") && !typing && state.at?.up) {
      event.preventDefault();
      go(state.view, state.at.up);
    }
  });
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });
  const view = data.views.find(({ name }) => location.hash === `#${name}`) ?? state.view;
  go(view, view.course || view.host ? null : rootOf(view), false);
  visited.push([state.view, state.at]);
  try { history.replaceState(0, ""); } catch { /* see go() */ }
}
