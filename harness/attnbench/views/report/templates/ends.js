"use strict";
// Changes to charts over length: the names at the ends of curves, and times relative to the
// least at each length.
const curves = (() => {
  const LINE = 14; // pixels from one name to the next: ends.LINE of attnbench.views.report.charts
  const isCurve = (spec) => Boolean(spec.datasets?.ends);

  // Levels near the wanted ones, no two closer than the gap; a port of attnbench.views.report.charts.ends.apart.
  function apart(wanted, top, share) {
    const gap = share * top;
    const along = (levels, step) => levels.reduce((found, level) => [...found, found.length ? step(level, found.at(-1)) : level], []);
    const upward = along(wanted, (own, below) => Math.max(own, below + gap));
    const downward = along([...wanted].reverse(), (own, above) => Math.min(own, above - gap)).reverse();
    const middle = upward.map((level, i) => (level + downward[i]) / 2);
    const under = middle.map((level, i) => Math.min(level, top - gap * (middle.length - 1 - i)));
    return under.map((level, i) => Math.max(level, gap * i));
  }

  // Recompute the rows of the names from the spec's points and its vertical axis.
  function placeEnds(spec) {
    const { points } = spec.datasets;
    const [low, high] = spec.layer.find((layer) => layer.data?.name === "ends").encoding.y.scale.domain;
    const edge = Math.max(...points.map((row) => row.length));
    const last = new Map([...points].sort((a, b) => a.length - b.length).map((row) => [row.implementation, row]));
    const rows = [...last.values()].sort((a, b) => a.value - b.value || (a.implementation < b.implementation ? -1 : 1));
    const levels = apart(rows.map((row) => Math.log(row.value / low)), Math.log(high / low), LINE / (spec.height - 44));
    spec.datasets.ends = rows.map(({ implementation, length, value }, i) => ({
      implementation, name: implementation + (length === edge ? "" : `, to ${units.length(length)}`),
      length: edge, value: length === edge ? value : null, level: low * Math.exp(levels[i]),
    }));
  }

  function overTheBest(spec) {
    const made = structuredClone(spec);
    const least = new Map();
    for (const { length, value } of made.datasets.points) least.set(length, Math.min(value, least.get(length) ?? Infinity));
    for (const row of made.datasets.points)
      for (const field of ["value", "low", "high"]) if (row[field] !== null) row[field] /= least.get(row.length);
    const ends = made.datasets.points.flatMap((row) => [row.value, row.low, row.high].filter((end) => end));
    const domain = [Math.min(...ends) / 1.1, Math.max(...ends) * 1.1];
    const values = [1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000].filter((value) => value <= domain[1]);
    for (const { encoding } of made.layer) {
      if (!encoding.y?.scale) continue;
      encoding.y.scale.domain = domain;
      encoding.y.title = "time over the best";
      if (encoding.y.axis) encoding.y.axis = { labelExpr: "format(datum.value, '~g') + '×'", values };
    }
    placeEnds(made);
    return made;
  }

  return { isCurve, placeEnds, overTheBest };
})();
