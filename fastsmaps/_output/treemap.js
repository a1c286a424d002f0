// The treemap. Tiles are buttons beside each other in one element: parts lie on what they belong to.

const HEAD = 19, GAP = 2, MIN_AREA = 24; // pixels
const MAX_TILES = 4000, MAX_PARTS = 1500; // of the picture, and of one tile

/** Lay out [node, area] pairs, largest first: Bruls, Huizing, van Wijk, "Squarified Treemaps", 2000. */
function squarify(items, x, y, w, h) {
  const boxes = [];
  for (let i = 0; i < items.length;) {
    const side = Math.min(w, h), largest = items[i][1];
    let row = 0, worst = Infinity, j = i;
    for (; j < items.length; j += 1) {
      const area = items[j][1], sum = row + area;
      const ratio = Math.max(side * side * largest / (sum * sum), sum * sum / (side * side * area));
      if (ratio > worst) break;
      worst = ratio;
      row = sum;
    }
    const thick = row / side;
    for (let along = 0; i < j; i += 1) {
      const length = items[i][1] / thick;
      boxes.push(w < h ? [items[i][0], x + along, y, length, thick] : [items[i][0], x, y + along, thick, length]);
      along += length;
    }
    if (w < h) { y += thick; h -= thick; } else { x += thick; w -= thick; }
  }
  return boxes;
}

/** The parts with their areas; those too small to be seen become one. */
function areas(node, w, h) {
  const kids = node.kids.filter((kid) => sizeOf(kid) > 0).sort((a, b) => sizeOf(b) - sizeOf(a));
  const scale = w * h / kids.reduce((sum, kid) => sum + sizeOf(kid), 0);
  let kept = kids.findIndex((kid) => sizeOf(kid) * scale < MIN_AREA);
  kept = Math.min(kept < 0 ? kids.length : kept, MAX_PARTS);
  const items = kids.slice(0, kept).map((kid) => [kid, sizeOf(kid) * scale]);
  const rest = kids.slice(kept);
  if (rest.length === 1) items.push([rest[0], sizeOf(rest[0]) * scale]);
  else if (rest.length) {
    const other = { name: `${rest.length.toLocaleString("en")} smaller`, full: "", fill: node.fill, v: values([]), kids: null, up: node, rest };
    rest.forEach((kid) => add(other.v, kid.v));
    items.push([other, sizeOf(other) * scale]);
  }
  return items.sort((a, b) => b[1] - a[1]);
}

function drawMap(map, found) {
  const { clientWidth: width, clientHeight: height } = map;
  Object.assign(map, { width, height });
  // Trees of processes are deep, and their upper levels often have one part.
  const levels = state.view.by === "parent" ? 12 : 3;
  const hits = found && new Set(found), tiles = [];
  const within = (node) => { for (; node; node = node.up) if (hits.has(node)) return true; return false; };
  const holds = new Set();
  found?.forEach((hit) => { for (let node = hit; node; node = node.up) holds.add(node); });

  const isDim = (node, opens) => hits && !within(node) && !(opens && holds.has(node)) && !node.rest?.some((part) => holds.has(part));

  // Level by level, so that what is left out if there are too many tiles is what lies deepest.
  const waiting = [];
  if (width && sizeOf(state.at) > 0 && state.at.kids) waiting.push([state.at, GAP, GAP, width - 2 * GAP, height - 2 * GAP, 1]);
  for (const [node, x, y, w, h, level, parent] of waiting) {
    const boxes = squarify(areas(node, w, h), x, y, w, h);
    if (tiles.length + boxes.length > MAX_TILES) continue;
    if (parent && level <= levels) parent.classList.add("open");
    for (const [kid, left, top, wide, high] of boxes) {
      const full = kid.kids?.some((part) => sizeOf(part) > 0);
      const opens = full && level < levels && wide > 64 && high > 44;
      // Too small for a head: only colours.
      const hints = full && !opens && !kid.fill && level < levels && wide > 12 && high > 12;
      const labelled = !hints && wide > 34 && high > 18;
      const tile = el("button", { type: "button", tabindex: "-1", fill: kid.fill,
        class: `tile${full ? " more" : ""}${labelled ? "" : " small"}${isDim(kid, opens) ? " dim" : ""}`,
        "aria-label": `${kid.name}, ${human(sizeOf(kid))}${full ? ", opens" : ""}` });
      if (labelled) tile.append(el("span", null, kid.name), (opens ? wide > 110 : high > 34) ? el("span", null, human(sizeOf(kid))) : "");
      Object.assign(tile.style, { left: `${left}px`, top: `${top}px`, width: `${Math.max(wide - 1, 1)}px`, height: `${Math.max(high - 1, 1)}px` });
      tile.node = kid;
      tiles.push(tile);
      if (opens) waiting.push([kid, left + GAP, top + HEAD, wide - 2 * GAP - 1, high - HEAD - GAP - 1, level + 1, tile]);
      else if (hints) waiting.push([kid, left, top, wide, high, Infinity]);
    }
  }
  map.replaceChildren(...tiles);
  if (!tiles.length) map.append(el("div", { class: "empty" }, `No ${NAMES[data.sizes[state.size]]} here.`));
  tiles[0]?.setAttribute("tabindex", "0");

  map.onclick = ({ target }) => { const node = target.closest(".tile")?.node; if (node) open(node); };
  map.onpointermove = ({ target, clientX, clientY }) => {
    const node = target.closest(".tile")?.node;
    if (node) showNode(node, clientX, clientY); else tip.hidden = true;
  };
  map.onpointerover = ({ target }) => {
    const node = target.closest(".tile")?.node;
    for (const row of document.querySelectorAll("tr.hot")) row.classList.remove("hot");
    for (let part = node; part; part = part.up) {
      [...document.querySelectorAll("tbody tr")].find((row) => row.node === part)?.classList.add("hot");
    }
  };
  map.onpointerleave = () => { tip.hidden = true; mark(null); };
  map.addEventListener("focusin", ({ target }) => {
    for (const tile of tiles) tile.tabIndex = tile === target ? 0 : -1;
    const box = target.getBoundingClientRect();
    if (target.matches(":focus-visible")) showNode(target.node, box.left, box.top + Math.min(box.height, HEAD));
  });
  map.addEventListener("focusout", () => { tip.hidden = true; });
  map.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!to) return;
    event.preventDefault();
    neighbour(tiles, event.target, to)?.focus();
  });
}

/** The nearest tile in a direction, [-1, 0] being the left, by upper left corners. */
function neighbour(tiles, from, [dx, dy]) {
  const at = from.getBoundingClientRect();
  let best = null, least = Infinity;
  for (const tile of tiles) {
    const box = tile.getBoundingClientRect(), x = box.left - at.left, y = box.top - at.top;
    const ahead = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (ahead > 1 && ahead + 3 * aside < least) { best = tile; least = ahead + 3 * aside; }
  }
  return best;
}

addEventListener("resize", () => {
  const picture = document.querySelector(".map, .course");
  if (picture && (picture.clientWidth !== picture.width || picture.clientHeight !== picture.height)) draw();
});
