"use strict";
// A click zooms in; Escape or a click on the topmost frame zooms out; a field searches. Frames need no scripts.
(() => {
  const svg = document.documentElement.matches("svg") ? document.documentElement : document.querySelector("svg");
  const whole = svg.viewBox.baseVal.width;
  const letter = Number(svg.dataset.letter);
  const number = (element, name) => Number(element.getAttribute(name));
  const frames = [...svg.querySelectorAll("g")].map((g) => {
    const [rect, text] = [g.querySelector("rect"), g.querySelector("text")];
    const [x, width] = [number(rect, "x"), number(rect, "width")];
    return { g, rect, text, x, width, y: number(rect, "y"), end: x + width, name: g.dataset.name };
  });
  if (!frames.length) return;

  function clipped(name, width) {
    const room = Math.floor((width - 6) / letter);
    if (name.length <= room) return name;
    return room >= 3 ? name.slice(0, room - 1) + "…" : "";
  }

  function zoom(into) {
    const scale = whole / into.width;
    for (const frame of frames) {
      const above = frame.y < into.y && frame.x <= into.x + 0.01 && frame.end >= into.end - 0.01;
      const within = frame.y >= into.y && frame.x >= into.x - 0.01 && frame.end <= into.end + 0.01;
      const [x, width] = above ? [0, whole] : [(frame.x - into.x) * scale, frame.width * scale];
      frame.g.style.display = above || within ? "" : "none";
      frame.g.classList.toggle("above", above);
      frame.rect.setAttribute("x", x);
      frame.rect.setAttribute("width", width);
      frame.text.setAttribute("x", x + 3);
      frame.text.textContent = clipped(frame.name, width);
    }
  }

  // The time of a frame below another hit is counted once.
  function search(said) {
    const wanted = said.toLowerCase();
    let share = 0, until = -1;
    const hits = new Set(frames.filter((frame) => wanted && frame.name.toLowerCase().includes(wanted)));
    for (const frame of frames) frame.g.classList.toggle("found", hits.has(frame));
    for (const frame of [...hits].sort((a, b) => a.x - b.x || b.width - a.width)) {
      share += Math.max(0, frame.end - Math.max(until, frame.x)) / whole;
      until = Math.max(until, frame.end);
    }
    told.textContent = wanted ? (100 * share).toFixed(1) + " %" : "";
  }

  const html = "http://www.w3.org/1999/xhtml";
  const place = document.createElementNS("http://www.w3.org/2000/svg", "foreignObject");
  for (const [name, value] of Object.entries({ x: whole - 260, y: 1, width: 258, height: 24 })) place.setAttribute(name, value);
  const [field, told] = ["input", "span"].map((tag) => document.createElementNS(html, tag));
  Object.assign(field, { type: "search", placeholder: "Search" });
  field.setAttribute("aria-label", "Search for a function");
  field.setAttribute("style", "width: 170px; font: 12px sans-serif; margin-right: 8px");
  told.setAttribute("style", "font: 12px sans-serif; color: GrayText");
  place.append(field, told);
  svg.append(place);
  field.addEventListener("input", () => search(field.value));
  for (const frame of frames) frame.g.addEventListener("click", () => zoom(frame));
  document.addEventListener("keydown", (event) => event.key === "Escape" && zoom(frames[0]));
})();
