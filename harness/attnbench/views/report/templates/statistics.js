"use strict";
// The same statistics as in attnbench.views.estimates, format and report.answer, so that what the page computes anew
// reads like what was written. A cell is { name, medians, ends, memory, status }; times are in ns.
const statistics = (() => {
  // ---------------------------------------------------------------- numbers with units
  const formats = new Map(); // decimals -> formatter
  const plain = (value, decimals) => {
    if (!formats.has(decimals))
      formats.set(decimals, new Intl.NumberFormat("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
    return formats.get(decimals).format(value);
  };

  function number(value, digits = 3) {
    if (value === 0) return "0";
    if (Math.abs(value) < 1e-4) return value.toExponential(digits - 1).replace(/e-(\d)$/, "e-0$1");
    const power = (one) => Math.floor(Math.log10(Math.abs(one)));
    const decimals = Math.max(0, digits - 1 - power(value));
    const rounded = Number(value.toFixed(decimals));
    return plain(rounded, rounded && power(rounded) > power(value) ? Math.max(0, decimals - 1) : decimals);
  }

  const unit = (value, units) => units.findLast(([one]) => Math.abs(value) >= 0.9995 * one) ?? units[0];
  const TIMES = [[1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"]];
  const BYTES = [[1, "B"], [2 ** 10, "KiB"], [2 ** 20, "MiB"], [2 ** 30, "GiB"], [2 ** 40, "TiB"]];
  const times = (value) => number(value) + "×";
  const length = (tokens) =>
    tokens >= 2 ** 20 && tokens % 2 ** 20 === 0 ? tokens / 2 ** 20 + "M"
      : tokens >= 1024 && tokens % 1024 === 0 ? tokens / 1024 + "k" : plain(tokens, 0);

  function duration(ns) {
    const [one, name] = unit(ns, TIMES);
    return `${number(ns / one)} ${name}`;
  }

  function size(bytes) {
    const [one, name] = unit(bytes, BYTES);
    return name === "B" ? `${plain(bytes, 0)} B` : `${number(bytes / one)} ${name}`;
  }

  // ---------------------------------------------------------------- the bootstrap of a median, exactly
  let rules = {}; // thresholds, which come with the page
  const laws = new Map(); // number of processes -> [lower index, upper index, probability] of each outcome

  function choose(n, k) {
    let product = 1;
    for (let i = 1; i <= k; i++) product = (product * (n - k + i)) / i;
    return product;
  }

  function medianLaw(n) {
    if (laws.has(n)) return laws.get(n);
    const lower = (n + 1) >> 1;
    const upper = (n >> 1) + 1;
    const atMost = (share) => {
      let sum = 0;
      for (let hits = lower; hits <= n; hits++) sum += choose(n, hits) * share ** hits * (1 - share) ** (n - hits);
      return sum;
    };
    const found = [];
    for (let i = 0; i < n; i++) {
      let chance = atMost((i + 1) / n) - atMost(i / n);
      for (let j = i + 1; upper > lower && j < n; j++) {
        const half = ((i + 1) / n) ** lower - (i / n) ** lower;
        const rest = ((n - j) / n) ** lower - ((n - j - 1) / n) ** lower;
        const apart = choose(n, lower) * half * rest;
        if (apart >= rules.faint) found.push([i, j, apart]);
        chance -= apart;
      }
      if (chance >= rules.faint) found.push([i, i, chance]);
    }
    laws.set(n, found);
    return found;
  }

  // What the median of a resample of the cell's processes can be, rising: [value, probability].
  function resampled(cell) {
    if (!cell.resampled) {
      const ordered = [...cell.medians].sort((a, b) => a - b);
      const outcomes = medianLaw(ordered.length).map(([i, j, chance]) => [(ordered[i] + ordered[j]) / 2, chance]);
      cell.resampled = outcomes.sort((a, b) => a[0] - b[0]);
    }
    return cell.resampled;
  }

  function ends(outcomes) {
    const ordered = [...outcomes].sort((a, b) => a[0] - b[0]);
    let sum = 0;
    const below = ordered.map(([, chance]) => (sum += chance));
    const at = (share) => ordered[Math.max(0, below.findIndex((chance) => chance >= share))][0];
    return [at(rules.tail), at(sum - rules.tail)];
  }

  // ---------------------------------------------------------------- estimates and ratios
  function value(cell) {
    if (cell.value === undefined) {
      const ordered = [...cell.medians].sort((a, b) => a - b);
      cell.value = (ordered[(ordered.length - 1) >> 1] + ordered[ordered.length >> 1]) / 2;
    }
    return cell.value;
  }

  function interval(cell) {
    if (cell.medians.length >= rules.few) return ends(resampled(cell));
    return cell.ends ? [value(cell) * (1 - cell.ends[0] / 1e4), value(cell) * (1 + cell.ends[1] / 1e4)] : null;
  }

  const fewest = (one, other) => Math.min(one.medians.length, other.medians.length);
  const room = (one, other) => (fewest(one, other) >= rules.exact ? 1 : rules.unseen);

  function ratio(numerator, denominator) {
    const gain = value(numerator) / value(denominator);
    if (fewest(numerator, denominator) >= rules.few) {
      const pairs = resampled(numerator).flatMap(([above, p]) => resampled(denominator).map(([below, q]) => [above / below, p * q]));
      return [gain, ...ends(pairs)];
    }
    const [top, bottom] = [interval(numerator), interval(denominator)];
    return top && bottom ? [gain, top[0] / bottom[1], top[1] / bottom[0]] : [gain, null, null];
  }

  // 1 where the ratio says that the denominator is faster, -1 where slower, 0 within noise.
  function difference(numerator, denominator, [, low, high]) {
    if (low === null) return 0;
    if (low > room(numerator, denominator)) return 1;
    return high < 1 / room(numerator, denominator) ? -1 : 0;
  }

  // Whether the lower end of slower / faster lies above what noise explains; without sorting all pairs of outcomes.
  function clearlyFaster(faster, slower) {
    if (value(faster) >= value(slower)) return false;
    const least = room(faster, slower);
    if (fewest(faster, slower) < rules.few) {
      const [own, other] = [interval(faster), interval(slower)];
      return Boolean(own && other) && other[0] / own[1] > least;
    }
    const below = resampled(faster);
    let chance = 0;
    let reached = 0; // probability that the slower one's median is at most least * the faster one's
    let index = 0;
    const above = resampled(slower);
    for (const [median, own] of below) {
      while (index < above.length && above[index][0] / median <= least) reached += above[index++][1];
      chance += own * reached;
    }
    return chance < rules.tail;
  }

  // The fastest of timed cells, those within noise of it, and the fastest of the others.
  function winner(cells) {
    const ordered = [...cells].sort((a, b) => value(a) - value(b) || (a.name < b.name ? -1 : 1));
    const [fastest, ...others] = ordered;
    const slower = others.filter((cell) => clearlyFaster(fastest, cell));
    const level = others.filter((cell) => !slower.includes(cell));
    return { fastest, names: [fastest.name, ...level.map((cell) => cell.name)], next: slower[0] };
  }

  const use = (given) => (rules = given);
  return { use, number, times, duration, size, length, value, interval, ratio, difference, winner };
})();
