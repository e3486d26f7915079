// The fleet's grid: finds, filters, sorts, goes from model to model by arrow keys, draws sparklines.
(() => {
  const grid = document.getElementById("grid");
  const form = document.getElementById("tools");
  if (!grid || !form) return;
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const SVG = "http://www.w3.org/2000/svg";
  const find = document.getElementById("find");
  const view = document.getElementById("view");
  const sort = document.getElementById("sort");
  const counter = document.getElementById("counter");
  const look = document.getElementById("look");
  const groups = [...grid.querySelectorAll(".group")].map((section) => {
    const where = `${section.parentElement.getAttribute("aria-label").slice(7)} ${(section.getAttribute("aria-label") || "").slice(6)}`;
    const list = section.querySelector(".models");
    const worse = "error" in section.parentElement.dataset ? -1 : 1;
    const links = [...list.children].map((link, place) => ({
      link, place, state: link.className, name: link.firstChild.textContent,
      value: parseFloat(link.children[1].textContent.replaceAll(",", "")) * worse,
      text: `${where} ${link.firstChild.textContent}`.toLowerCase(),
    }));
    return { section, list, links };
  });

  const height = (letter) => 20 - (LETTERS.indexOf(letter) / (LETTERS.length - 1)) * 18;
  function draw(link) {
    const points = link.dataset.s;
    if (!points || link.querySelector("svg")) return;
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${Math.max(points.length - 2, 1)} 22`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    if (points[0] !== "-") {
      const line = document.createElementNS(SVG, "line");
      line.setAttribute("x1", 0);
      line.setAttribute("x2", points.length - 2);
      line.setAttribute("y1", height(points[0]));
      line.setAttribute("y2", height(points[0]));
      svg.append(line);
    }
    let d = "";
    let pen = "M";
    for (let i = 1; i < points.length; i += 1) {
      if (points[i] === "-") { pen = "M"; continue; }
      d += `${pen}${i - 1} ${height(points[i]).toFixed(1)}`;
      if (pen === "M") d += "h.01";
      pen = "L";
    }
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
    link.append(svg);
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { draw(entry.target); seen.unobserve(entry.target); }
    }
  }, { rootMargin: "300px" });

  const ORDERS = {
    state: (a, b) => a.place - b.place,
    name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
    value: (a, b) => (a.value ?? 0) - (b.value ?? 0) || a.place - b.place,
  };
  let ordered = "state";
  function show() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const states = new Set([...form.querySelectorAll("input:checked")].map((box) => box.value));
    let count = 0;
    for (const { section, list, links } of groups) {
      let here = 0;
      for (const one of links) {
        const shown = (!states.size || states.has(one.state)) && words.every((w) => one.text.includes(w));
        if (one.link.hidden === shown) one.link.hidden = !shown;
        here += shown;
      }
      section.hidden = !here;
      if (sort.value !== ordered) {
        const order = ORDERS[sort.value];
        list.append(...[...links].sort((a, b) => (Number.isNaN(a.value) - Number.isNaN(b.value)) * (sort.value === "value") || order(a, b)).map((one) => one.link));
      }
      count += here;
    }
    ordered = sort.value;
    for (const family of grid.children) family.hidden = !family.querySelector(".group:not([hidden])");
    grid.className = view.value;
    for (const { links } of groups) for (const one of links) seen.observe(one.link);
    counter.textContent = `${count.toLocaleString("en")} model${count === 1 ? "" : "s"}`;
  }
  function remember() {
    const url = new URL(location.href);
    url.search = "";
    for (const [key, value] of new FormData(form)) {
      const usual = key === "sort" ? value === "state" : key === "view" ? value === usualView : !value;
      if (!usual) url.searchParams.append(key, value);
    }
    history.replaceState(null, "", url);
  }
  const usualView = view.value;
  function recall() {
    const asked = new URLSearchParams(location.search);
    find.value = asked.get("q") || "";
    if (ORDERS[asked.get("sort")]) sort.value = asked.get("sort");
    if (["cards", "cells"].includes(asked.get("view"))) view.value = asked.get("view");
    const states = asked.getAll("state");
    for (const box of form.querySelectorAll("input[type=checkbox]")) box.checked = states.includes(box.value);
  }
  form.addEventListener("input", () => { show(); remember(); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    grid.querySelector(".group:not([hidden]) a:not([hidden])")?.focus();
  });

  const tell = (link) => { look.textContent = link ? `${link.children[0].textContent}: ${link.children[2].textContent}, ${link.children[1].textContent}` : ""; };
  grid.addEventListener("mouseover", (event) => tell(event.target.closest(".models a")));
  grid.addEventListener("focusin", (event) => tell(event.target.closest(".models a")));

  function step(link, key) {
    const all = [...grid.querySelectorAll(".group:not([hidden]) .models a:not([hidden])")];
    const at = all.indexOf(link);
    if (key === "ArrowLeft") return all[at - 1];
    if (key === "ArrowRight") return all[at + 1];
    const own = link.getBoundingClientRect();
    const down = key === "ArrowDown";
    let best = null;
    for (let i = at + (down ? 1 : -1); i >= 0 && i < all.length; i += down ? 1 : -1) {
      const box = all[i].getBoundingClientRect();
      if (Math.abs(box.top - own.top) < 4) continue;
      if (best && Math.abs(box.top - best.top) > 4) break;
      const away = Math.abs(box.left - own.left);
      if (!best || away < best.away) best = { link: all[i], top: box.top, away };
    }
    return best?.link;
  }
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const link = document.activeElement?.closest?.(".models a");
    if (event.key === "/" && document.activeElement !== find) {
      event.preventDefault();
      find.focus();
      find.select();
    } else if (event.key === "Escape" && document.activeElement === find) {
      find.value = "";
      show();
      remember();
    } else if (event.key === "ArrowDown" && document.activeElement === find) {
      event.preventDefault();
      grid.querySelector(".group:not([hidden]) a:not([hidden])")?.focus();
    } else if (link && event.key.startsWith("Arrow")) {
      event.preventDefault();
      step(link, event.key)?.focus();
    }
  });
  recall();
  show();
})();
