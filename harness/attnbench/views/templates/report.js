"use strict";
// Makes the page interactive; without it everything is there to be read. The state is in the address, behind the
// section's anchor: #time?dtype=float32&hide=naive/torch&baseline=torch/sdpa
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const json = (element) => JSON.parse(element.textContent);
  const marks = json(document.getElementById("marks"));
  const names = Object.keys(marks);
  const filters = document.getElementById("filters");
  const state = { section: "", facets: {}, hidden: new Set(), baseline: "", focus: "" };
  const views = new Map(); // figure -> Vega's view of it

  // ---------------------------------------------------------------- the address
  function read() {
    const [section, query = ""] = decodeURIComponent(location.hash.slice(1)).split("?");
    const given = new URLSearchParams(query);
    state.section = section;
    state.hidden = new Set((given.get("hide") ?? "").split(",").filter((name) => names.includes(name)));
    state.baseline = given.get("baseline") ?? "";
    state.facets = Object.fromEntries([...given].filter(([name]) => name !== "hide" && name !== "baseline"));
  }

  function query() {
    const given = new URLSearchParams(state.facets);
    if (state.hidden.size) given.set("hide", [...state.hidden].join(","));
    if (state.baseline) given.set("baseline", state.baseline);
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
    const before = { facets: state.facets, hidden: state.hidden, baseline: state.baseline };
    read();
    if (!hasQuery && kept) Object.assign(state, before); // a link within the page keeps the filters
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
    const found = {};
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
    const boxes = element("fieldset", {}, element("legend", { textContent: "implementations" }));
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
      Object.assign(state, { facets: {}, hidden: new Set(), baseline: "" });
      for (const box of all("input", filters)) box.checked = true;
      for (const select of all("select", filters)) select.value = select.name === "baseline" ? heat?.dataset.baseline : "";
      apply();
    });
    filters.append(boxes, reset);
    const box = document.getElementById("filter-box");
    box.hidden = false;
    box.open = matchMedia("(min-width: 68rem)").matches || Boolean(query());
    filters.addEventListener("submit", (event) => event.preventDefault());
  }

  // ---------------------------------------------------------------- what is shown
  function apply() {
    for (const one of all("[data-facets]")) {
      const facets = JSON.parse(one.dataset.facets);
      const out = Object.entries(state.facets).some(([name, value]) => name in facets && facets[name] !== value);
      one.classList.toggle("filtered", out);
    }
    for (const row of all("[data-implementation]"))
      row.classList.toggle("filtered", state.hidden.has(row.dataset.implementation));
    for (const table of all("table[data-baseline]")) speedups(table);
    for (const view of views.values()) signal(view, "hidden", [...state.hidden]);
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

  // ---------------------------------------------------------------- speed-ups over another baseline
  const steps = [1.07, 1.5, 2.5, 5];
  const short = (value) => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));

  function speedups(table) {
    const named = state.baseline || table.dataset.baseline;
    if (named === (table.dataset.shown ?? table.dataset.baseline)) return;
    const rows = all("tbody tr", table);
    const reference = rows.find((row) => row.dataset.implementation === named);
    if (!reference) return;
    for (const row of rows)
      all("td", row).forEach((cell, column) => {
        const base = reference.cells[column + 1].dataset;
        if (!cell.dataset.ns) return;
        cell.className = "number heat0";
        cell.removeAttribute("title");
        cell.textContent = row === reference ? "1" : "";
        if (row === reference || !base.ns) return;
        const own = cell.dataset;
        const gain = base.ns / own.ns;
        const low = base.low / own.high / 1.02;
        const high = (base.high / own.low) * 1.02;
        const tie = !(low > 1 || high < 1);
        const size = gain >= 1 ? gain : 1 / gain;
        const level = tie ? 0 : steps.filter((step) => size >= step).length;
        cell.textContent = (tie ? "≈ " : "") + short(gain) + "×";
        cell.className = "number heat" + (gain >= 1 ? level : -level);
      });
    table.dataset.shown = named;
    table.caption.textContent = table.caption.textContent.replace(/speed-up over .*$/, "speed-up over " + named);
  }

  // ---------------------------------------------------------------- charts
  function named(item) {
    const datum = item?.mark?.marktype === "group" ? null : item?.datum ?? item?.items?.[0]?.datum;
    const name = datum?.implementation ?? datum?.value;
    return names.includes(name) ? name : "";
  }

  async function enliven(figure, spec) {
    if (views.has(figure)) return;
    views.set(figure, { signal: () => ({ runAsync() {} }) }); // until it is there
    const place = element("div", { className: "live" });
    const chart = figure.querySelector(".chart");
    chart.append(place);
    try {
      const { view } = await vegaEmbed(place, spec, { renderer: "svg", actions: false, mode: "vega-lite" });
      view.addEventListener("pointermove", (_, item) => focus(named(item)));
      view.addEventListener("pointerout", () => focus(""));
      views.set(figure, view);
      await view.signal("hidden", [...state.hidden]).runAsync();
      const drawn = place.querySelector("svg");
      drawn.setAttribute("role", "img");
      drawn.setAttribute("aria-label", figure.querySelector(".chart > svg")?.getAttribute("aria-label") ?? "");
      figure.querySelector(".chart > svg")?.remove();
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

  // ---------------------------------------------------------------- groups without a chart of their own
  function withRows(spec, rows, axis) {
    const data = rows.map(([implementation, length, value, low, high]) => ({
      implementation, length, value, low, high, at: String(length), text: String(value),
    }));
    const present = names.filter((name) => data.some((row) => row.implementation === name));
    const range = (values, room) => [Math.min(...values) / room, Math.max(...values) * room];
    const made = structuredClone(spec);
    made.layer = made.layer.filter((layer) => !layer.data?.values?.some((row) => "law" in row));
    const visit = (part) => {
      if (part.data?.values?.[0]?.implementation) part.data.values = data;
      for (const [channel, encoding] of Object.entries(part.encoding ?? {})) {
        if (!encoding.scale) continue;
        if (channel === "x" || channel === "y") {
          const ends = data.flatMap((row) => (channel === "x" ? [row.length] : [row.value, row.low, row.high].filter((end) => end)));
          encoding.scale.domain = range(ends, 1.2);
          if (encoding.axis) delete encoding.axis.values;
          if (channel === "x") encoding.title = axis;
        } else {
          encoding.scale.domain = present;
          encoding.scale.range = present.map((name) => marks[name][channel === "shape" ? "shape" : "colour"]);
        }
      }
      for (const layer of part.layer ?? []) visit(layer);
    };
    visit(made);
    return made;
  }

  function anyGroup() {
    const place = document.getElementById("any-group");
    const groups = json(document.getElementById("undrawn"));
    if (!place || !groups.length) return;
    const models = ["time", "memory"].map((noun) => [noun, document.querySelector(`[id^="${noun}-"] script.spec`)]);
    const select = place.querySelector("select");
    groups.forEach((group, index) => select.append(element("option", { value: index, textContent: group.label })));
    const draw = () => {
      const group = groups[select.value];
      const figures = place.querySelector(".figures");
      for (const figure of figures.children) views.delete(figure);
      figures.replaceChildren();
      for (const [noun, model] of models) {
        if (!model || !group[noun].length) continue;
        const title = element("figcaption", { textContent: `${group.label}: ${noun}` });
        const figure = element("figure", {}, title, element("div", { className: "chart" }));
        figures.append(figure);
        enliven(figure, withRows(json(model), group[noun], group.axis));
      }
    };
    select.addEventListener("change", draw);
    place.hidden = false;
    draw();
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
            const farthest = 64 * law.longest; // no law is trusted beyond
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
  budget();
  buildControls();
  apply();
  anyGroup();
  if (state.section) document.getElementById(state.section)?.scrollIntoView();
  addEventListener("hashchange", onAddress);
  if (window.vegaEmbed) enlivenWhenSeen();
})();
