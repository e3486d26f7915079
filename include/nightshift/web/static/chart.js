// A model's metric over time, and under it how many of its labels were known. Drawn by uPlot.
(() => {
  const data = document.getElementById("series");
  if (!data) return;
  const s = JSON.parse(data.textContent);
  const metric = document.getElementById("chart-metric");
  const coverage = document.getElementById("chart-coverage");
  const KINDS = { retrain: "◆", promote: "▲", rollback: "▼", shadow: "◇" };
  const DATES = [
    [31536000, "{YYYY}", null, null, null, null, null, null, 1],
    [2419200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
    [86400, "{MMM} {D}", "\n{YYYY}", null, null, null, null, null, 1],
    [3600, "{HH}:{mm}", "\n{MMM} {D}", null, null, null, null, null, 1],
    [60, "{HH}:{mm}", "\n{MMM} {D}", null, null, null, null, null, 1],
  ];

  function colour(name) {
    const probe = document.createElement("i");
    probe.className = "probe";
    document.body.append(probe);
    probe.style.color = `var(--${name})`;
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }
  const figure = (value) => (value == null ? "–" : Number(value.toPrecision(4)).toString());
  const two = (number) => String(number).padStart(2, "0");
  const day = (time) => {
    const at = new Date(time * 1000);
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
  };

  function axes(c, extra) {
    const common = { stroke: c.quiet, grid: { stroke: c.edge, width: 1 }, ticks: { stroke: c.edge, width: 1 }, font: "12px sans-serif" };
    return [{ ...common, values: DATES }, { ...common, size: 64, ...extra }];
  }

  // What happened when, and what the lines are: written where they are.
  function annotate(u, c) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${12 * ratio}px sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    const notes = [];
    for (const [time, kind, version] of s.marks) {
      const x = u.valToPos(time, "x", true);
      if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) continue;
      const serves = version != null;
      ctx.strokeStyle = serves ? c.text : c.guess;
      ctx.lineWidth = ratio;
      ctx.setLineDash(serves ? [] : [3 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const text = serves ? `${KINDS[kind] || "▲"} v${version}` : `${KINDS[kind] || "·"} ${kind}`;
      const last = notes[notes.length - 1];
      if (last && x - last.x < 60 * ratio) last.texts.push(text);
      else notes.push({ x, texts: [text] });
    }
    ctx.fillStyle = c.text;
    let free = -Infinity;
    for (const { x, texts } of notes) {
      const text = texts.length > 3 ? `${texts.length} changes` : texts.join(" ");
      const width = ctx.measureText(text).width;
      const left = Math.min(x, bbox.left + bbox.width - width);
      if (left < free) continue;
      ctx.fillText(text, left, bbox.top - 6 * ratio);
      free = left + width + 10 * ratio;
    }
    ctx.setLineDash([]);
    ctx.fillStyle = c.limit;
    s.state.forEach((state, i) => {
      if (state !== "breached" || s.value[i] == null) return;
      const x = u.valToPos(s.time[i], "x", true);
      const y = u.valToPos(s.value[i], "y", true);
      const r = 4.5 * ratio * (s.error ? -1 : 1); // it points to where it is worse
      ctx.beginPath();
      ctx.moveTo(x - r, y - r * 0.7);
      ctx.lineTo(x + r, y - r * 0.7);
      ctx.lineTo(x, y + r);
      ctx.fill();
    });
    // Where a line ends, its name: from the top, so that names do not cover each other.
    const ends = [["realized", s.value, c.line], ["estimated", s.estimated.value, c.guess], [s.limit, s.threshold, c.limit]]
      .map(([name, values, ink]) => ({ name, ink, value: values.findLast((v) => v != null) }))
      .filter((end) => end.value !== undefined)
      .map((end) => ({ ...end, y: u.valToPos(end.value, "y", true) + 4 * ratio }))
      .sort((one, other) => one.y - other.y);
    let above = -Infinity;
    for (const end of ends) {
      above = Math.max(end.y, above + 14 * ratio);
      ctx.fillStyle = end.ink;
      ctx.fillText(end.name, bbox.left + bbox.width + 6 * ratio, above);
    }
    ctx.restore();
  }

  let charts = [];
  function draw() {
    for (const chart of charts) chart.destroy();
    const c = Object.fromEntries(["text", "quiet", "edge", "line", "band", "limit", "guess"].map((name) => [name, colour(name)]));
    const width = metric.clientWidth;
    const cursor = { sync: { key: "model" }, drag: { x: true, y: false } };
    const x = { label: "Measured", value: (_, time) => (time == null ? "–" : day(time)) };
    const value = (_, v) => figure(v);
    const every = [...s.time, ...s.estimated.time];
    const [first, last] = [Math.min(...every), Math.max(...every)];
    const span = { range: first === last ? [first - 86400, last + 86400] : [first, last] };
    const points = (ink, hollow) => ({ show: s.time.length < 120, size: 5, stroke: ink, fill: hollow ? "transparent" : ink });
    const estimated = s.estimated.value.some((v) => v != null);
    // At rest the line under a chart tells the last night.
    const rest = [(u) => { if (u.legend.idx == null) u.setLegend({ idx: u.data[0].length - 1 }, false); }];
    const lines = [
      [{ label: "Low", stroke: "transparent", width: 0, points: { show: false }, value }, s.low],
      [{ label: "High", stroke: "transparent", width: 0, points: { show: false }, value }, s.high],
      [{ label: "Realized", stroke: c.line, width: 2, points: points(c.line), value }, s.value],
      [{ label: s.limit === "limit" ? "Limit" : "Minimum", stroke: c.limit, width: 1.5, dash: [2, 3], points: { show: false }, value }, s.threshold],
      ...(estimated ? [[{ label: "Estimated", stroke: c.guess, width: 1.5, dash: [5, 4], points: points(c.guess, true), value }, s.estimated.value]] : []),
    ];
    // Estimates are made at other times: there the others have no gap, but nothing to say.
    const measured = [s.time, ...lines.slice(0, 4).map(([, values]) => values)];
    const joined = estimated ? uPlot.join([measured, [s.estimated.time, s.estimated.value]]) : measured;
    charts = [
      new uPlot({
        width, height: 330, padding: [22, 68, 0, 0], cursor, axes: axes(c), scales: { x: { time: true, ...span } },
        series: [x, ...lines.map(([line]) => line)],
        bands: [{ series: [2, 1], fill: c.band }],
        hooks: { draw: [(u) => annotate(u, c)], ready: rest, setLegend: rest },
      }, joined, metric),
      new uPlot({
        width, height: 130, padding: [8, 68, 0, 0], cursor,
        axes: axes(c, { values: (_, all) => all.map((v) => `${Math.round(v * 100)}%`) }),
        scales: { x: { time: true, ...span }, y: { range: [0, 1] } },
        series: [x, { label: "Labels known", stroke: c.line, fill: c.band, width: 1.5, points: { show: false }, value: (_, v) => (v == null ? "–" : `${(v * 100).toFixed(1)}%`) }],
        hooks: { ready: rest, setLegend: rest },
      }, [s.time, s.labels.map((count, i) => (s.predictions[i] ? count / s.predictions[i] : null))], coverage),
    ];
  }
  draw();
  addEventListener("themed", draw);
  let width = metric.clientWidth;
  new ResizeObserver(() => {
    if (metric.clientWidth === width) return;
    width = metric.clientWidth;
    for (const chart of charts) chart.setSize({ width, height: chart.height });
  }).observe(metric);
})();
