"use strict";

// Makes the page's learning curves answer: a guide with the numbers of the nearest points, labels
// that are switched off in all figures, and the curves of single seeds. The panels are drawn already;
// their numbers are those of reports/rendering/curves.py.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const GAP = 12; // pixels between the guide and its numbers
  const { labels, grids, panels, seeds } = JSON.parse(document.getElementById("curves").textContent);
  // Kept when the page is loaded again, by name, since the report may have other labels by then.
  const state = { off: [], seeds, ...history.state };

  const nameOf = (label) => labels[label][0];
  const isOff = (label) => state.off.includes(nameOf(label));

  function add(parent, name, attributes = {}) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  }

  function addText(parent, name, text = "") {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  }

  // Where a number lies in the drawing of a panel.
  const across = ({ box, x }, value) => box[0] + (value - x[0]) / (x[1] - x[0]) * (box[2] - box[0]);
  const up = ({ box, y }, value) => box[3] - (value - y[0]) / (y[1] - y[0]) * (box[3] - box[1]);

  function numberText(value) {
    const size = Math.abs(value);
    if (size >= 1e9 || (size > 0 && size < 1e-4)) return value.toExponential(2);
    if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
    return value === 0 ? "0" : value.toPrecision(4);
  }

  const stepText = (value) => value.toLocaleString("en", { maximumSignificantDigits: value < 1000 ? 4 : 9 });

  // The point of each curve that is shown nearest to a place on the x axis, the highest first.
  function nearestPoints(panel, place) {
    return panel.curves.filter((curve) => !isOff(curve.label)).map((curve) => {
      const distances = grids[curve.x].map((x, i) =>
        curve.mean[i] === null ? Infinity : Math.abs(x - place));
      const i = distances.indexOf(Math.min(...distances));
      const [mean, low, high] = ["mean", "low", "high"].map((name) => curve[name][i]);
      const seeds = curve.seeds[i] ?? curve.seeds; // a list, or one number
      return { label: curve.label, x: grids[curve.x][i], distance: distances[i], mean, low, high, seeds };
    }).filter((point) => point.mean !== null).sort((a, b) => b.mean - a.mean);
  }

  function fillTip(tip, panel, points, x) {
    tip.replaceChildren();
    addText(tip, "div", `${panel.unit}: ${stepText(x)}`);
    const rows = addText(addText(tip, "table"), "tbody");
    for (const point of points) {
      const row = addText(rows, "tr");
      const interval = point.low === null ? "" : `[${numberText(point.low)}, ${numberText(point.high)}]`;
      const elsewhere = point.x === x ? "" : ` at ${stepText(point.x)}`;
      const swatch = add(addText(row, "td"), "svg", { viewBox: "0 0 380 140" });
      add(swatch, "use", { href: `#label:${point.label}` });
      for (const text of [nameOf(point.label), numberText(point.mean), interval,
        `${point.seeds} seed${point.seeds === 1 ? "" : "s"}${elsewhere}`]) addText(row, "td", text);
    }
  }

  // Beside the guide where the window has room, otherwise below the axes.
  function placeTip(tip, svg, guide) {
    const window = document.documentElement.clientWidth;
    tip.style.left = "0";
    const before = tip.offsetParent.getBoundingClientRect().left;
    const right = guide + GAP, left = guide - GAP - tip.offsetWidth;
    const fits = before + right + tip.offsetWidth <= window ? right : before + left >= 0 ? left : null;
    tip.style.left = `${fits ?? Math.min(0, window - before - tip.offsetWidth)}px`;
    tip.style.top = fits === null ? "100%" : `${tip.offsetParent.offsetHeight - svg.clientHeight}px`;
  }

  function makeAnswer(svg) {
    const panel = panels[svg.dataset.panel];
    const guide = add(svg, "g", { class: "guide" });
    const tip = addText(svg.parentNode, "div");
    let shown = null; // the x of the guide
    tip.className = "tip";
    tip.setAttribute("role", "status");

    function hide() {
      guide.replaceChildren();
      tip.hidden = true;
      shown = null;
    }

    function show(place) {
      const points = nearestPoints(panel, place);
      hide();
      if (points.length === 0) return;
      shown = points.reduce((a, b) => (b.distance < a.distance ? b : a)).x;
      const x = across(panel, shown);
      add(guide, "path", { d: `M${x} ${panel.box[1]}V${panel.box[3]}` });
      for (const point of points) {
        const color = labels[point.label][1];
        add(guide, "circle", { cx: across(panel, point.x), cy: up(panel, point.mean), r: 32, color });
      }
      fillTip(tip, panel, points, shown);
      tip.hidden = false;
      placeTip(tip, svg, x * svg.clientWidth / svg.viewBox.baseVal.width);
    }

    function follow(event) {
      const { left, width } = svg.getBoundingClientRect();
      const x = (event.clientX - left) / width * svg.viewBox.baseVal.width;
      const share = (x - panel.box[0]) / (panel.box[2] - panel.box[0]);
      show(panel.x[0] + share * (panel.x[1] - panel.x[0]));
    }

    // To the next point of any curve; from the end of the axis where nothing is shown yet.
    function step(direction) {
      const places = panel.curves.filter((curve) => !isOff(curve.label)).flatMap((curve) => grids[curve.x]);
      const from = shown ?? (direction > 0 ? -Infinity : Infinity);
      const ahead = places.filter((x) => (x - from) * direction > 0);
      if (ahead.length > 0) show(direction > 0 ? Math.min(...ahead) : Math.max(...ahead));
    }

    hide();
    svg.tabIndex = 0;
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    // A finger that is lifted leaves the numbers to be read, until something else is touched.
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    document.addEventListener("pointerdown", (event) => { if (!svg.contains(event.target)) hide(); });
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      step(event.key === "ArrowLeft" ? -1 : 1);
      event.preventDefault();
    });
  }

  // Thin lines into the drawing of each panel, once they are asked for.
  function drawSeeds() {
    panels.forEach((panel, number) => {
      for (const { label, runs = [] } of panel.curves) {
        const group = document.getElementById(`panel:${number}`).querySelector(`[data-label="${label}"]`);
        const seeds = add(group, "g", { class: "seeds" });
        for (const [grid, returns] of runs) {
          const points = grids[grid].map((x, i) => [x, returns[i]]).filter(([, y]) => y !== null);
          const places = points.map(([x, y]) => `${across(panel, x).toFixed()} ${up(panel, y).toFixed()}`);
          add(seeds, "path", { d: `M${places.join(" ")}` });
        }
      }
    });
  }

  const buttons = []; // each with whether it is pressed

  function addButton(item, isPressed, press) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...item.childNodes);
    item.append(button);
    button.addEventListener("click", () => {
      press();
      update();
    });
    buttons.push([button, isPressed]);
  }

  // The page as the state says; what is drawn once is shown by every figure that has it.
  function update() {
    for (const [button, isPressed] of buttons) button.setAttribute("aria-pressed", isPressed());
    if (state.seeds && !document.querySelector(".seeds")) drawSeeds();
    for (const group of document.querySelectorAll("g[data-label]")) {
      group.style.display = isOff(group.dataset.label) ? "none" : "";
    }
    for (const group of document.querySelectorAll(".seeds")) {
      group.style.display = state.seeds ? "" : "none";
    }
    history.replaceState(state, "");
  }

  for (const figure of document.querySelectorAll(".curves")) {
    const svgs = [...figure.querySelectorAll("svg[data-panel]")];
    svgs.forEach(makeAnswer);
    for (const item of figure.querySelectorAll(".legend [data-label]")) {
      const name = nameOf(item.dataset.label);
      addButton(item, () => !state.off.includes(name), () => {
        state.off = state.off.includes(name) ? state.off.filter((x) => x !== name) : [...state.off, name];
      });
    }
    if (svgs.some((svg) => panels[svg.dataset.panel].curves.some((curve) => curve.runs))) {
      const item = addText(figure.querySelector(".legend"), "li", "Single seeds");
      item.className = "switch";
      addButton(item, () => state.seeds, () => { state.seeds = !state.seeds; });
    }
  }
  update();
})();
