"use strict";
// Views that the page builds from the numbers of all groups: winners, speed-ups over another baseline, and one
// group at a time. Intervals and verdicts are looked up; attnbench.views.estimates computed them.
function groupViews({ points, marks, state, element, all, drawChart, onChange }) {
  const U = units;
  const facetNames = Object.keys(points.facets);
  const groups = points.groups.map((group, index) => ({
    ...group,
    index,
    facets: Object.fromEntries(facetNames.map((name, i) => [name, points.facets[name][group.facets[i]]])),
    cells: group.cells.map(([name, at, time = 0, low = 0, high = 0, memory = 0]) => ({
      name: points.names[name], tokens: group.lengths[at], time: typeof time === "string" ? 0 : time, low, high, memory,
      status: typeof time === "string" ? time : "",
    })),
  }));
  for (const group of groups)
    group.pairs.forEach(([verdicts, ...gains], at) => {
      const timed = group.cells.filter((cell) => cell.time && cell.tokens === group.lengths[at]);
      timed.forEach((cell, place) => Object.assign(cell, { place, among: timed.length, verdicts, gains }));
    });
  const PAGE = 60; // rows shown at once
  const MOST_OPTIONS = 400;

  const matching = () =>
    groups.filter((group) => Object.entries(state.facets).every(([name, value]) => !(name in group.facets) || group.facets[name] === value));

  function named(name) {
    const made = element("span", { className: "name" });
    const mark = marks[name];
    if (mark) {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      svg.setAttribute("class", "swatch");
      svg.setAttribute("viewBox", "4 4 12 12");
      svg.setAttribute("aria-hidden", "true");
      path.setAttribute("d", mark.path);
      path.style.fill = `var(--series-${mark.series})`;
      svg.append(path);
      made.append(svg);
    }
    made.append(name);
    return made;
  }

  // The time of one cell over that of another of the same length: value, ends of the interval, and the verdict on
  // the latter: f(aster), s(lower) or w(ithin noise).
  function ratio(above, below) {
    const turned = above.place > below.place;
    const [first, second] = [above.place, below.place].sort((a, b) => a - b);
    const pair = first * above.among - (first * (first + 1)) / 2 + second - first - 1;
    const [value, low, high] = above.gains.slice(3 * pair, 3 * pair + 3);
    const verdict = above.verdicts[pair];
    if (!turned) return { value, low, high, verdict };
    if (low === null) return { value: 1 / value, low, high, verdict };
    return { value: 1 / value, low: 1 / high, high: 1 / low, verdict: { f: "s", s: "f", w: "w" }[verdict] };
  }

  const interval = ({ low, high }) => (low === null ? "" : ` (${U.number(low)} … ${U.number(high)})`);

  // The fastest of timed cells, those within noise of it, and the fastest of the others.
  function winner(cells) {
    const [fastest, ...others] = [...cells].sort((a, b) => a.time - b.time || (a.name < b.name ? -1 : 1));
    const slower = others.filter((cell) => ratio(cell, fastest).verdict === "f");
    const level = others.filter((cell) => !slower.includes(cell));
    return { fastest, level, names: [fastest, ...level].map((cell) => cell.name), next: slower[0] };
  }

  function headed(tag, text, className = "") {
    const made = element("th", { className }, text);
    made.scope = tag;
    return made;
  }

  // ---------------------------------------------------------------- winners
  // The winner at each length of a group, among implementations that are not hidden.
  function winnersOf(group) {
    const timed = new Map();
    for (const cell of group.cells)
      if (cell.time && !state.hidden.has(cell.name)) timed.set(cell.tokens, [...(timed.get(cell.tokens) ?? []), cell]);
    return new Map([...timed].map(([tokens, cells]) => [tokens, winner(cells)]));
  }

  function winnerField(group, tokens, found) {
    if (!found) return element("td");
    const parts = found.names.slice(0, 3).map((name, i) => {
      const part = named(name);
      if (!i) return part;
      part.prepend("≈ ");
      const { low, high } = ratio(found.level[i - 1], found.fastest);
      if (low !== null) part.append(" ", element("span", { className: "tied", textContent: `${U.number(low)} … ${U.number(high)}` }));
      return part;
    });
    if (found.names.length > 3) parts.push(element("span", { className: "name", textContent: `≈ ${found.names.length - 3} more` }));
    let lead = "";
    if (found.next) {
      const gain = ratio(found.next, found.fastest);
      lead = U.times(gain.value) + interval(gain);
    }
    const said = lead && found.level.length ? "then " + lead : lead;
    const field = element("td", {}, ...parts, element("span", { className: "lead-by", textContent: said }));
    field.className = `series-${marks[found.names[0]].series}` + (found.names.length > 1 ? " tie" : "");
    const level = found.names.length > 1 ? `, within noise of ${found.names.slice(1).join(", ")}` : "";
    const ahead = lead && `, ${lead} ahead of ${found.next.name}`;
    field.title = `${group.label}, ${group.axis} ${U.length(tokens)}: ${found.names[0]} ${U.duration(found.fastest.time)}${level}${ahead}`;
    return field;
  }

  function groupRow(group, lengths) {
    const large = document.querySelector(".explore");
    const label = large ? element("a", { href: `#explore?group=${group.index}`, textContent: group.label }) : group.label;
    const found = winnersOf(group);
    const fields = lengths.map((tokens) => winnerField(group, tokens, found.get(tokens)));
    return element("tr", {}, headed("row", label), ...placed(fields, group.axis, lengths));
  }

  function mostOften(winners) {
    if (!winners.length) return element("td");
    const wins = new Map();
    const alone = winners.filter(({ names, next }) => names.length === 1 && !next).length;
    for (const { names, next } of winners) if (names.length === 1 && next) wins.set(names[0], (wins.get(names[0]) ?? 0) + 1);
    const ordered = [...wins].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    const ties = winners.length - alone - ordered.reduce((sum, [, n]) => sum + n, 0);
    const level = [ties && `${ties} within noise`, alone && `${alone} alone`].filter(Boolean).join(", ");
    if (!ordered.length) return element("td", { className: "tie" }, element("span", { className: "lead-by", textContent: level }));
    const [name, most] = ordered[0];
    const said = `${most} of ${winners.length}` + (level && `, ${level}`);
    const field = element("td", { className: `series-${marks[name].series}` }, named(name), element("span", { className: "lead-by", textContent: said }));
    field.title = ordered.map(([one, n]) => `${one} in ${n}`).join(", ") + (level && `, ${level}`);
    return field;
  }

  function summaryRows(chosen, axis, lengths) {
    const varying = facetNames.filter((name) => new Set(chosen.map((group) => group.facets[name])).size > 1);
    const rows = [["all", () => true]];
    for (const name of varying)
      for (const value of points.facets[name])
        if (chosen.some((group) => group.facets[name] === value)) rows.push([`${name} ${value}`, (group) => group.facets[name] === value]);
    return rows.map(([label, has]) => {
      const sharing = chosen.filter(has).map(winnersOf);
      const fields = lengths.map((tokens) => mostOften(sharing.map((found) => found.get(tokens)).filter(Boolean)));
      return element("tr", {}, headed("row", label), ...placed(fields, axis, lengths));
    });
  }

  // On a narrow screen each field tells its length itself.
  function placed(fields, axis, lengths) {
    fields.forEach((field, i) => (field.dataset.at = `${axis} ${U.length(lengths[i])}`));
    return fields;
  }

  function pager(table, total) {
    const start = Number(table.dataset.start);
    const place = table.closest(".scroll").nextElementSibling;
    place.hidden = false;
    if (total <= PAGE) return place.replaceChildren(total ? "" : "No group of cases is chosen by the filters.");
    const step = (by, text) => {
      const button = element("button", { type: "button", textContent: text });
      button.disabled = start + by < 0 || start + by >= total;
      button.addEventListener("click", () => {
        table.dataset.start = start + by;
        map(table);
        table.closest(".scroll").scrollTop = 0;
        place.querySelector(by < 0 ? "button" : "button:last-of-type").focus();
      });
      return button;
    };
    const last = Math.min(start + PAGE, total);
    place.replaceChildren(step(-PAGE, "Previous"), ` Groups ${start + 1} to ${last} of ${total.toLocaleString("en")} `, step(PAGE, "Next"));
  }

  function map(table) {
    const lengths = JSON.parse(table.dataset.lengths);
    const chosen = matching().filter((group) => group.axis === table.dataset.axis && winnersOf(group).size);
    const body = table.tBodies[0];
    if (table.dataset.of === "facets") return body.replaceChildren(...(chosen.length ? summaryRows(chosen, table.dataset.axis, lengths) : []));
    if (Number(table.dataset.start) >= chosen.length) table.dataset.start = 0;
    const start = Number(table.dataset.start);
    body.replaceChildren(...chosen.slice(start, start + PAGE).map((group) => groupRow(group, lengths)));
    pager(table, chosen.length);
  }

  // ---------------------------------------------------------------- speed-ups
  const STEPS = [1.07, 1.5, 2.5, 5];
  function heat(gain) {
    const level = STEPS.filter((step) => (gain >= 1 ? gain : 1 / gain) >= step).length;
    return gain >= 1 ? level : -level;
  }

  function speedField(cell, base) {
    if (!cell) return element("td");
    if (!cell.time) return element("td", { className: "number heat0", textContent: cell.status });
    const taken = U.duration(cell.time);
    if (cell === base) return element("td", { className: "number heat0", textContent: "1", title: `${cell.name}: ${taken}` });
    if (!base?.time) return element("td", { className: "number heat0", title: taken });
    const gain = ratio(base, cell);
    const tie = gain.verdict === "w";
    return element("td", {
      className: `number heat${tie ? 0 : heat(gain.value)}`,
      textContent: (tie ? "≈ " : "") + U.times(gain.value),
      title: `${cell.name}: ${taken}, ${U.times(gain.value)}${interval(gain)} over ${base.name}`,
    });
  }

  function speedRow(name, fields) {
    const row = element("tr", {}, headed("row", named(name)), ...fields);
    row.dataset.implementation = name;
    return row;
  }

  function speedRows(group, baseline) {
    const timed = group.cells.filter((cell) => cell.time);
    const lengths = [...new Set(timed.map((cell) => cell.tokens))].sort((a, b) => a - b);
    const at = new Map(group.cells.map((cell) => [cell.name + " " + cell.tokens, cell]));
    const of = (name, tokens) => at.get(name + " " + tokens);
    return [...new Set(timed.map((cell) => cell.name))].sort()
      .map((name) => speedRow(name, lengths.map((tokens) => speedField(of(name, tokens), of(baseline, tokens)))));
  }

  function meanRows(run, lengths, baseline) {
    const found = new Map(); // implementation -> length -> logarithms of speed-ups
    for (const group of matching().filter((one) => one.facets.run === run)) {
      const base = new Map(group.cells.filter((cell) => cell.name === baseline && cell.time).map((cell) => [cell.tokens, cell]));
      for (const cell of group.cells)
        if (cell.time && cell.name !== baseline && base.has(cell.tokens)) {
          if (!found.has(cell.name)) found.set(cell.name, new Map());
          const of = found.get(cell.name);
          of.set(cell.tokens, [...(of.get(cell.tokens) ?? []), base.get(cell.tokens).time / cell.time]);
        }
    }
    return [...found].sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([name, of]) =>
      speedRow(name, lengths.map((tokens) => {
        const gains = of.get(tokens);
        if (!gains) return element("td");
        const mean = Math.exp(gains.reduce((sum, gain) => sum + Math.log(gain), 0) / gains.length);
        const title = `${gains.length} ${gains.length === 1 ? "case" : "cases"}, ${U.times(Math.min(...gains))} to ${U.times(Math.max(...gains))}`;
        return element("td", { className: `number heat${heat(mean)}`, textContent: U.times(mean), title });
      })),
    );
  }

  function speedups(table) {
    const baseline = state.baseline || table.dataset.baseline;
    const isMean = table.dataset.group === undefined;
    const wanted = baseline + (isMean ? JSON.stringify(state.facets) : "");
    table.dataset.shown ??= table.dataset.baseline + (isMean ? "{}" : "");
    if (wanted === table.dataset.shown) return;
    const rows = isMean
      ? meanRows(JSON.parse(table.parentElement.dataset.facets).run, JSON.parse(table.dataset.lengths), baseline)
      : speedRows(groups[table.dataset.group], baseline);
    table.tBodies[0].replaceChildren(...rows);
    table.dataset.shown = wanted;
    table.caption.textContent = table.caption.textContent.replace(/speed-up over .*$/, "speed-up over " + baseline);
    table.parentElement.setAttribute("aria-label", table.caption.textContent);
  }

  // ---------------------------------------------------------------- one group at a time
  const explorer = document.querySelector(".explore");
  let drawn = null;

  function explore() {
    if (!explorer) return;
    const select = explorer.querySelector("select");
    const chosen = matching();
    if (!chosen.some((group) => group.index === state.group)) state.group = chosen[0]?.index ?? null;
    const wanted = chosen.slice(0, MOST_OPTIONS);
    const current = groups[state.group];
    if (current && !wanted.includes(current)) wanted.unshift(current);
    const key = wanted.map((group) => group.index).join();
    if (select.dataset.key !== key) {
      select.replaceChildren(...wanted.map((group) => element("option", { value: group.index, textContent: group.label })));
      select.dataset.key = key;
    }
    const rest = chosen.length - wanted.length;
    explorer.querySelector("output").textContent =
      `${chosen.length.toLocaleString("en")} of ${groups.length.toLocaleString("en")} groups are chosen by the filters` + (rest > 0 ? `, the first ${MOST_OPTIONS} can be picked here.` : ".");
    const place = explorer.querySelector(".group");
    place.hidden = !current;
    if (!current) return;
    select.value = state.group;
    const shown = `${state.group} ${state.baseline}`;
    if (drawn === shown) return;
    drawn = shown;
    exploreGroup(current, place);
  }

  function exploreGroup(group, place) {
    const timed = group.cells.filter((cell) => cell.time);
    const weighed = group.cells.filter((cell) => cell.memory);
    const time = timed.map((cell) => ({ cell, value: cell.time, ends: cell.low ? [cell.low, cell.high] : null, text: U.duration(cell.time) }));
    const memory = weighed.map((cell) => ({ cell, value: cell.memory, ends: null, text: U.size(cell.memory) }));
    const figures = [drawChart("time", group, time, "Time of one call"), drawChart("memory", group, memory, "Peak memory of one call")];
    place.replaceChildren(
      element("div", { className: "figures" }, ...figures.filter(Boolean)),
      ...(timed.length ? [speedTable(group)] : []),
      numbersTable(group),
    );
  }

  function speedTable(group) {
    const heatTable = document.querySelector("table[data-baseline]");
    const baseline = state.baseline || heatTable?.dataset.baseline || points.names[0];
    const lengths = [...new Set(group.cells.filter((cell) => cell.time).map((cell) => cell.tokens))].sort((a, b) => a - b);
    const caption = `${group.label}: speed-up over ${baseline}`;
    const head = element("thead", {}, element("tr", {}, headed("col", group.axis), ...lengths.map((tokens) => headed("col", U.length(tokens), "number"))));
    const table = element("table", { className: "heat" }, element("caption", { textContent: caption }), head, element("tbody", {}, ...speedRows(group, baseline)));
    return region(caption, table);
  }

  function numbersTable(group) {
    const rows = group.cells.map((cell) => {
      const texts = [
        cell.time ? U.duration(cell.time) : cell.status || "—",
        cell.low ? `${U.duration(cell.low)} … ${U.duration(cell.high)}` : "—",
        cell.memory ? U.size(cell.memory) : "—",
      ];
      const row = element("tr", {}, element("td", { className: "number", textContent: U.length(cell.tokens) }), element("td", {}, named(cell.name)),
        ...texts.map((textContent) => element("td", { className: "number", textContent })));
      row.dataset.implementation = cell.name;
      return row;
    });
    const titles = [[group.axis, "number"], ["implementation", ""], ["median", "number"], ["95 % interval", "number"], ["peak memory", "number"]];
    const head = element("thead", {}, element("tr", {}, ...titles.map(([title, name]) => headed("col", title, name))));
    const table = element("table", {}, head, element("tbody", {}, ...rows));
    return element("details", {}, element("summary", { textContent: "Numbers" }), region(`Numbers: ${group.label}`, table));
  }

  function region(label, inside) {
    const made = element("div", { className: "scroll", tabIndex: 0 }, inside);
    made.setAttribute("role", "region");
    made.setAttribute("aria-label", label);
    return made;
  }

  if (explorer) {
    explorer.hidden = false;
    document.querySelector(".without-scripts").hidden = true;
    explorer.querySelector("select").addEventListener("change", (event) => {
      state.group = Number(event.target.value);
      onChange();
    });
  }

  let mapsShown = JSON.stringify([[], {}]); // as rendered: nothing hidden, all groups
  function apply() {
    const wanted = JSON.stringify([[...state.hidden].sort(), state.facets]);
    for (const table of all("table.map")) {
      const first = table.dataset.start === undefined;
      table.dataset.start ??= 0;
      if (wanted !== mapsShown || (first && Number(table.dataset.left))) map(table);
    }
    mapsShown = wanted;
    for (const table of all("table[data-baseline]")) speedups(table);
    explore();
  }

  return { apply, facets: points.facets };
}
