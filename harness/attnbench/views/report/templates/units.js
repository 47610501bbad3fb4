"use strict";
// Numbers with units, formatted like attnbench.units does, so that computed values look like rendered ones.
const units = (() => {
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

  return { number, times, duration, size, length };
})();
