// The course over time: a line for each size, with the values under the pointer, and tables.

const PAD = { left: 64, right: 18, top: 16, bottom: 30 };

function seconds(s) {
  if (s < 60) return `${+s.toFixed(s < 10 ? 2 : 1)} s`;
  const [large, small, size] = s < 3600 ? ["min", "s", 60] : ["h", "min", 3600];
  const rest = Math.floor(s % size / (size / 60));
  return `${Math.floor(s / size)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

/** A round step that gives about n of them. */
function step(span, n, steps) {
  return steps.find((size) => span / size <= n) ?? 10 ** Math.ceil(Math.log10(span / n));
}

const TIMES = [.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];
const SIZES = Array.from({ length: 45 }, (_, power) => 2 ** power);

function svg(tag, props, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "fill") element.style.setProperty("--fill", `var(--${value})`);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function drawCourse({ elapsed, lines, peaks, growth }) {
  const names = Object.keys(lines), hidden = (state.hidden ??= new Set());
  const box = el("div", { class: "course", tabindex: "0", role: "img",
    "aria-label": "memory over time; arrow keys show the values of each sample" });
  const marks = svg("g"); // what the pointer is at
  let at = -1, place = null;

  function paint() {
    const width = box.clientWidth, height = box.clientHeight;
    if (!width) return;
    Object.assign(box, { width, height });
    const shown = names.filter((name) => !hidden.has(name));
    const span = elapsed.at(-1) || 1;
    const most = Math.max(1, ...shown.map((name) => lines[name].reduce((a, b) => Math.max(a, b ?? 0), 0)));
    const unit = step(most, 8, SIZES), top = Math.ceil(most * 1.04 / unit) * unit;
    const x = (s) => PAD.left + s / span * (width - PAD.left - PAD.right);
    const y = (kib) => height - PAD.bottom - kib / top * (height - PAD.top - PAD.bottom);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    for (let value = 0; value <= top; value += unit) {
      picture.append(svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: y(value), y2: y(value) }),
        svg("text", { x: PAD.left - 8, y: y(value) + 4, "text-anchor": "end" }, human(value).replace(".0 ", " ")));
    }
    const tick = step(span, Math.max(2, Math.floor(width / 110)), TIMES);
    for (let value = 0; value <= span * 1.0001; value += tick) {
      picture.append(svg("text", { x: x(value), y: height - 9, "text-anchor": value ? "middle" : "start" }, seconds(value)));
    }
    for (const name of shown) {
      let path = "", drawn = false, before = null;
      lines[name].forEach((value, i) => {
        if (value == null) { drawn = false; return; }
        // VmHWM stays until it is exceeded.
        if (drawn && name === "peak_rss") path += `H${x(elapsed[i]).toFixed(1)}`;
        path += `${drawn ? "L" : "M"}${x(elapsed[i]).toFixed(1)},${y(value).toFixed(1)}`;
        drawn = true;
        before = [elapsed[i], value];
      });
      picture.append(svg("path", { class: `path ${name}`, d: path, fill: name }));
      if (before && elapsed.length === 1) picture.append(svg("circle", { class: "dot", fill: name, cx: x(before[0]), cy: y(before[1]), r: 4 }));
    }
    const main = shown.find((name) => peaks[name]);
    if (main) {
      const [when, value] = peaks[main], end = x(when) > width * 0.7, low = y(value) < 40;
      picture.append(svg("circle", { class: "dot", fill: main, cx: x(when), cy: y(value), r: 5 }),
        svg("text", { class: "peak", x: x(when) + (end ? -10 : 10), y: y(value) + (low ? 20 : -9), "text-anchor": end ? "end" : "start" },
          `peak ${NAMES[main]} ${human(value)} at ${seconds(when)}`));
    }
    picture.append(marks);
    box.replaceChildren(picture);
    place = { x, y, shown, bottom: height - PAD.bottom };
  }

  function point(sample) {
    at = sample;
    marks.replaceChildren();
    tip.hidden = true;
    if (at < 0 || !place) return;
    const { x, y, shown, bottom } = place, left = x(elapsed[at]), frame = box.getBoundingClientRect();
    marks.append(svg("line", { class: "grid", x1: left, x2: left, y1: PAD.top, y2: bottom }));
    for (const name of shown) {
      const value = lines[name][at];
      if (value != null) marks.append(svg("circle", { class: "dot", fill: name, cx: left, cy: y(value), r: 4 }));
    }
    showTip(seconds(elapsed[at]), "", shown.map((name) => [NAMES[name], human(lines[name][at])]), frame.left + left, frame.top + PAD.top);
  }

  box.addEventListener("pointermove", ({ clientX }) => {
    const frame = box.getBoundingClientRect();
    const s = (clientX - frame.left - PAD.left) / (frame.width - PAD.left - PAD.right) * elapsed.at(-1);
    const after = elapsed.findIndex((value) => value >= s), i = after < 0 ? elapsed.length - 1 : after;
    point(i > 0 && s - elapsed[i - 1] < elapsed[i] - s ? i - 1 : i);
  });
  for (const leaving of ["pointerleave", "blur"]) box.addEventListener(leaving, () => point(-1));
  box.addEventListener("keydown", ({ key }) => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: elapsed.length - 1 }[key];
    if (to === undefined) return;
    point(Math.max(0, Math.min(elapsed.length - 1, to)));
  });
  requestAnimationFrame(paint);
  if (!elapsed.length) return [el("p", { class: "note" }, "It ended before the first sample.")];

  const toggles = el("div", { class: "toggles", role: "group", "aria-label": "lines to show" }, ...names.map((name) =>
    el("button", { type: "button", "aria-pressed": String(!hidden.has(name)), onclick: ({ currentTarget }) => {
      if (!hidden.delete(name)) hidden.add(name);
      currentTarget.setAttribute("aria-pressed", String(!hidden.has(name)));
      point(-1);
      paint();
    } }, el("i", { fill: name }), NAMES[name])));
  const ends = names.map((name) => {
    const [when, value] = peaks[name] ?? [null, lines[name].reduce((a, b) => (b == null ? a : Math.max(a ?? 0, b)), null)];
    return [NAMES[name], human(lines[name][0]), human(value), when == null ? "" : seconds(when), human(lines[name].at(-1))];
  });
  const samples = el("section");
  function fill(all) {
    const shown = all ? elapsed : elapsed.slice(0, MAX_ROWS);
    samples.replaceChildren(el("h2", null, count(elapsed.length, "sample")),
      table(["#Time", ...names.map((name) => `#${NAMES[name]}`)], shown.map((s, i) => [seconds(s), ...names.map((name) => human(lines[name][i]))]), "samples"));
    if (shown.length < elapsed.length) {
      samples.append(el("button", { class: "all", type: "button", onclick: () => fill(true) }, `Show ${count(elapsed.length - shown.length, "more sample")}`));
    }
  }
  fill(false);
  const signed = (kib) => (kib > 0 ? "+" : "") + human(kib);
  const columns = ["Uss", "Pss", "Rss", "Swap"].map((name, i) => [name, i]).filter(([, i]) => i < 3 || growth.some(([, sizes]) => sizes[i]));
  const changed = growth.length ? el("section", null, el("h2", null, "What grew and shrank most"),
    table(["Memory", ...columns.map(([name]) => `#${name}`)], growth.map(([name, sizes]) => [
      el("span", null, last(name), last(name) === name ? "" : el("small", null, name)),
      ...columns.map(([, i]) => signed(sizes[i]))]), "text growth")) : "";
  return [toggles, box, el("div", { class: "pair" }, el("div", null,
    el("section", null, el("h2", null, "Peaks"), table(["Memory", "#Start", "#Peak", "#At", "#End"], ends, "samples")), changed), samples)];
}

start();
