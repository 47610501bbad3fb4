"use strict";
// Makes the page interactive; without it everything can be read. The state is in the address, after the
// section's anchor: #time?dtype=float32&hide=naive/torch&baseline=torch/sdpa
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const json = (element) => JSON.parse(element.textContent);
  const marks = json(document.getElementById("marks"));
  const names = Object.keys(marks);
  const filters = document.getElementById("filters");
  const state = { section: "", facets: {}, hidden: new Set(), baseline: "", relative: false, group: null, focus: "" };
  const views = new Map(); // figure -> Vega's view of it
  const specs = new Map(); // figure -> the specification that it is drawn from
  const NARROWEST = 460; // pixels, as drawn; a chart with less room is scaled down

  // ---------------------------------------------------------------- the address
  function read() {
    const [section, query = ""] = decodeURIComponent(location.hash.slice(1)).split("?");
    const given = new URLSearchParams(query);
    state.section = section;
    state.hidden = new Set((given.get("hide") ?? "").split(",").filter((name) => names.includes(name)));
    state.baseline = given.get("baseline") ?? "";
    state.relative = given.has("relative");
    state.group = given.has("group") ? Number(given.get("group")) : state.group;
    state.facets = Object.fromEntries([...given].filter(([name]) => !["hide", "baseline", "relative", "group"].includes(name)));
  }

  function query() {
    const given = new URLSearchParams(state.facets);
    if (state.hidden.size) given.set("hide", [...state.hidden].join(","));
    if (state.baseline) given.set("baseline", state.baseline);
    if (state.relative) given.set("relative", "");
    if (state.group && document.querySelector(".explore")) given.set("group", state.group);
    return String(given);
  }

  function write() {
    const said = query();
    const hash = "#" + state.section + (said ? "?" + said : "");
    if (location.hash !== hash) history.replaceState(null, "", hash === "#" ? location.pathname + location.search : hash);
  }

  function onAddress() {
    const kept = query();
    const hasQuery = location.hash.includes("?");
    const before = { facets: state.facets, hidden: state.hidden, baseline: state.baseline, relative: state.relative };
    const group = new URLSearchParams(location.hash.split("?")[1]).get("group");
    read();
    // A link within the page, to a section or to a group of cases, keeps the filters.
    if ((!hasQuery && kept) || (group !== null && !location.hash.includes("&"))) Object.assign(state, before);
    apply();
    document.getElementById(state.section)?.scrollIntoView();
  }

  // ---------------------------------------------------------------- controls
  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function facetValues() {
    const found = Object.fromEntries(Object.entries(groups.facets).map(([name, values]) => [name, new Set(values)]));
    for (const one of all("[data-facets]"))
      for (const [name, value] of Object.entries(JSON.parse(one.dataset.facets))) (found[name] ??= new Set()).add(value);
    return Object.entries(found).filter(([, values]) => values.size > 1);
  }

  function choice(label, values, chosen, onChange) {
    const select = element("select", { name: label });
    for (const value of values) select.append(element("option", { value, textContent: value || "all" }));
    select.value = chosen;
    select.addEventListener("change", () => onChange(select.value));
    return element("label", {}, label + " ", select);
  }

  function buildControls() {
    for (const [name, values] of facetValues())
      filters.append(
        choice(name, ["", ...values], state.facets[name] ?? "", (value) => {
          if (value) state.facets[name] = value;
          else delete state.facets[name];
          apply();
        }),
      );
    const heat = document.querySelector("table[data-baseline]");
    if (heat)
      filters.append(
        choice("baseline", names, state.baseline || heat.dataset.baseline, (value) => {
          state.baseline = value;
          apply();
        }),
      );
    if (all("figure[id^='time-'] script.spec").some((spec) => curves.isCurve(json(spec)))) {
      const box = element("input", { type: "checkbox", name: "relative", checked: state.relative });
      box.addEventListener("change", () => {
        state.relative = box.checked;
        apply();
      });
      filters.append(element("label", {}, box, " time relative to the best"));
    }
    const boxes = element("fieldset", {}, element("legend", { textContent: document.getElementById("marks").dataset.noun }));
    for (const name of names) {
      const box = element("input", { type: "checkbox", name, checked: !state.hidden.has(name) });
      box.addEventListener("change", () => {
        if (box.checked) state.hidden.delete(name);
        else state.hidden.add(name);
        apply();
      });
      const label = element("label", {}, box, " " + name);
      label.addEventListener("pointerenter", () => focus(name));
      label.addEventListener("pointerleave", () => focus(""));
      boxes.append(label);
    }
    const reset = element("button", { type: "button", textContent: "Show everything" });
    reset.addEventListener("click", () => {
      Object.assign(state, { facets: {}, hidden: new Set(), baseline: "", relative: false });
      for (const box of all("input", filters)) box.checked = box.name !== "relative";
      for (const select of all("select", filters)) select.value = select.name === "baseline" ? heat?.dataset.baseline : "";
      apply();
    });
    filters.append(boxes, reset);
    const box = document.getElementById("filter-box");
    box.hidden = false;
    const isWide = matchMedia("(min-width: 68rem)").matches;
    box.open = isWide || Boolean(query());
    document.querySelector(".sections").open = isWide;
    filters.addEventListener("submit", (event) => event.preventDefault());
  }

  // ---------------------------------------------------------------- what is shown
  function apply() {
    for (const one of all("[data-facets]")) {
      const facets = JSON.parse(one.dataset.facets);
      const out = Object.entries(state.facets).some(([name, value]) => name in facets && facets[name] !== value);
      one.classList.toggle("filtered", out);
    }
    groups.apply();
    for (const row of all("[data-implementation]"))
      row.classList.toggle("filtered", state.hidden.has(row.dataset.implementation));
    for (const view of views.values()) signal(view, "hidden", [...state.hidden]);
    for (const [figure, { relative }] of specs) if (relative !== (state.relative && hasTimes(figure))) redraw(figure);
    write();
  }

  function focus(name) {
    if (name === state.focus) return;
    state.focus = name;
    for (const view of views.values()) signal(view, "focus", name);
    for (const row of all("[data-implementation]")) row.classList.toggle("focus", row.dataset.implementation === name);
  }

  function signal(view, name, value) {
    view.signal(name, value).runAsync();
  }

  // ---------------------------------------------------------------- charts
  function named(item) {
    const datum = item?.mark?.marktype === "group" ? null : item?.datum ?? item?.items?.[0]?.datum;
    const name = datum?.implementation ?? datum?.value;
    return names.includes(name) ? name : "";
  }

  // Whether a figure shows times as curves, which can be shown over the best.
  function hasTimes(figure) {
    return (figure.dataset.noun ?? figure.id).startsWith("time") && curves.isCurve(specs.get(figure).spec);
  }

  function redraw(figure) {
    const { spec } = specs.get(figure);
    views.get(figure)?.finalize?.();
    views.delete(figure);
    enliven(figure, spec);
  }

  async function enliven(figure, spec) {
    if (views.has(figure)) return;
    specs.set(figure, { spec });
    const relative = state.relative && hasTimes(figure);
    specs.set(figure, { spec, relative });
    views.set(figure, { signal: () => ({ runAsync() {} }) }); // until the real one exists
    const place = element("div", { className: "live" });
    const chart = figure.querySelector(".chart");
    const before = chart.querySelector(".live");
    if (!chart.dataset.said && !before) chart.dataset.said = chart.querySelector("svg").getAttribute("aria-label");
    chart.append(place);
    const shown = { ...(relative ? curves.overTheBest(spec) : spec), width: Math.max(NARROWEST, chart.clientWidth) };
    try {
      // ast: expressions are interpreted, because a Content-Security-Policy can forbid eval.
      const { view } = await vegaEmbed(place, shown, { renderer: "svg", actions: false, mode: "vega-lite", ast: true });
      view.addEventListener("pointermove", (_, item) => focus(named(item)));
      view.addEventListener("pointerout", () => focus(""));
      views.set(figure, view);
      await view.signal("hidden", [...state.hidden]).runAsync();
      const drawn = place.querySelector("svg");
      drawn.setAttribute("role", "img");
      drawn.setAttribute("aria-label", chart.dataset.said);
      // To a screen reader the chart is one image: no document around it, no symbols within.
      for (const part of drawn.children) part.setAttribute("aria-hidden", "true");
      for (const name of ["role", "aria-roledescription", "aria-label"]) place.removeAttribute(name);
      place.querySelector("form")?.remove();
      figure.querySelector(".chart > svg")?.remove();
      before?.remove();
      figure.classList.add("is-live");
    } catch (error) {
      place.remove(); // the drawn chart stays
      views.delete(figure);
    }
  }

  function enlivenWhenSeen() {
    const seen = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries)
          if (isIntersecting) {
            seen.unobserve(target);
            enliven(target, json(target.querySelector("script.spec")));
          }
      },
      { rootMargin: "400px" },
    );
    for (const figure of all("figure:has(script.spec)")) seen.observe(figure);
  }

  // ---------------------------------------------------------------- a group without a chart of its own
  // Powers of 1024, 16, 4 or 2, the coarsest that give three: binary_ticks of attnbench.views.report.charts.ticks.
  function binaryTicks(low, high) {
    for (const base of [1024, 16, 4, 2]) {
      const ticks = [];
      for (let power = 0; base ** power <= high; power++) if (base ** power >= low) ticks.push(base ** power);
      if (ticks.length >= 3 || base === 2) return ticks.filter((_, i) => i % Math.ceil(ticks.length / 8) === 0);
    }
  }

  function withRows(spec, noun, rows, axis) {
    const data = rows.map(({ cell, value, ends, text }) => ({
      implementation: cell.name, length: cell.tokens, value, low: ends?.[0] ?? null, high: ends?.[1] ?? null,
      at: units.length(cell.tokens), text,
    }));
    const present = names.filter((name) => data.some((row) => row.implementation === name));
    const range = (values, room) => [Math.min(...values) / room, Math.max(...values) * room];
    const made = structuredClone(spec);
    made.layer = made.layer.filter((layer) => !layer.data?.values?.some((row) => "law" in row));
    made.datasets = { points: data, ends: [] };
    for (const layer of made.layer)
      for (const [channel, encoding] of Object.entries(layer.encoding)) {
        if (!encoding.scale) continue;
        if (channel === "x" || channel === "y") {
          const ends = data.flatMap((row) => (channel === "x" ? [row.length] : [row.value, row.low, row.high].filter((end) => end)));
          encoding.scale.domain = range(ends, 1.2);
          if (encoding.axis) delete encoding.axis.values;
          if (channel === "y" && encoding.axis && noun === "memory") encoding.axis.values = binaryTicks(...encoding.scale.domain);
          if (channel === "x") Object.assign(encoding, { title: axis, axis: { ...encoding.axis, values: [...new Set(ends)] } });
        } else {
          encoding.scale.domain = present;
          encoding.scale.range = present.map((name) => marks[name][channel === "shape" ? "shape" : "colour"]);
        }
      }
    curves.placeEnds(made);
    return made;
  }

  // A figure of one group, modelled on a drawn one, or null if there is nothing to draw.
  function drawChart(noun, group, rows, what) {
    const specs = all(`figure[id^="${noun}-"] script.spec`).map(json);
    const model = specs.find((spec) => spec.layer.some((layer) => layer.encoding.x?.field === "length"));
    for (const [figure] of views)
      if (!figure.isConnected) {
        views.delete(figure);
        specs.delete(figure);
      }
    if (!model || new Set(rows.map(({ cell }) => cell.tokens)).size < 2) return null;
    const longest = Math.max(...rows.map(({ cell }) => cell.tokens));
    const last = rows.filter(({ cell }) => cell.tokens === longest).sort((a, b) => a.value - b.value);
    const end = ({ cell, text }) => `${cell.name} ${text}`;
    const said = `${what} against ${group.axis}, ${group.label}. At ${units.length(longest)}: least ${end(last[0])}, most ${end(last.at(-1))}.`;
    const chart = element("div", { className: "chart" });
    chart.dataset.said = said;
    const figure = element("figure", {}, element("figcaption", { textContent: `${group.label}: ${noun}` }), chart);
    figure.dataset.noun = noun;
    // Vega measures the element that it draws into, so the figure must be in the page by then.
    requestAnimationFrame(() => enliven(figure, withRows(model, noun, rows, group.axis)));
    return figure;
  }

  // ---------------------------------------------------------------- which length fits a budget
  function budget() {
    for (const place of all(".budget")) {
      const laws = json(place.querySelector("script"));
      const input = place.querySelector("input");
      const body = place.querySelector("tbody");
      const answer = () => {
        const bytes = input.value * 2 ** 30;
        body.replaceChildren(
          ...laws.map((law) => {
            const length = ((bytes - law.floor) / law.coefficient) ** (1 / law.exponent);
            const rounded = Number(length.toPrecision(2));
            const farthest = 64 * law.longest; // laws are not used beyond this
            const shown = length > farthest ? "> " + farthest.toLocaleString("en") : rounded.toLocaleString("en");
            const text = bytes > law.floor ? shown + (length > law.longest ? "*" : "") : "none";
            const row = element("tr", {}, element("td", { textContent: law.implementation }),
              element("td", { textContent: law.cases }), element("td", { className: "number", textContent: text }));
            row.dataset.implementation = law.implementation;
            row.dataset.facets = JSON.stringify(law.facets);
            return row;
          }),
        );
      };
      input.addEventListener("input", () => (answer(), apply()));
      answer();
      place.hidden = false;
    }
  }

  read();
  const points = json(document.getElementById("points"));
  const groups = groupViews({ points, marks, state, element, all, drawChart, onChange: () => apply() });
  budget();
  buildControls();
  apply();
  if (state.section) document.getElementById(state.section)?.scrollIntoView();
  addEventListener("hashchange", onAddress);
  if (window.vegaEmbed) enlivenWhenSeen();
})();
