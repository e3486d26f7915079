// A model's metric over time, and under it how many of its labels were known. Drawn by uPlot.
(() => {
  const data = document.getElementById("series");
  if (!data) return;
  const s = JSON.parse(data.textContent);
  const metric = document.getElementById("chart-metric");
  const coverage = document.getElementById("chart-coverage");
  const KINDS = { retrain: "◆", promote: "▲", rollback: "▼", shadow: "◇" };
  const NAMES = { retrain: "retrain", promote: "serves", rollback: "back to" };

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
  const day = (time) => `${new Date(time * 1000).toISOString().slice(0, 16).replace("T", " ")}Z`;

  function axes(c, extra) {
    const common = { stroke: c.quiet, grid: { stroke: c.edge, width: 1 }, ticks: { stroke: c.edge, width: 1 }, font: "12px sans-serif" };
    return [{ ...common }, { ...common, size: 64, ...extra }];
  }

  // What happened when, and what the lines are: written where they are.
  function annotate(u, c) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${12 * ratio}px sans-serif`;
    let free = -Infinity;
    for (const [time, kind, version] of s.marks) {
      const x = u.valToPos(time, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      const serves = version != null;
      ctx.strokeStyle = ctx.fillStyle = serves ? c.text : c.guess;
      ctx.lineWidth = ratio;
      ctx.setLineDash(serves ? [] : [3 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const text = serves ? `${KINDS[kind] || "▲"} v${version}` : `${KINDS[kind] || "·"} ${NAMES[kind] || kind}`;
      const width = ctx.measureText(text).width;
      if (x > free) {
        ctx.fillText(text, Math.min(x + 3 * ratio, bbox.left + bbox.width - width), bbox.top - 5 * ratio);
        free = x + width + 10 * ratio;
      }
    }
    ctx.setLineDash([]);
    ctx.fillStyle = c.limit;
    s.state.forEach((state, i) => {
      if (state !== "breached" || s.value[i] == null) return;
      const x = u.valToPos(s.time[i], "x", true);
      const y = u.valToPos(s.value[i], "y", true);
      const r = 4.5 * ratio;
      ctx.beginPath();
      ctx.moveTo(x - r, y - r * 0.7);
      ctx.lineTo(x + r, y - r * 0.7);
      ctx.lineTo(x, y + r);
      ctx.fill();
    });
    const said = [];
    for (const [name, values, ink] of [["realized", s.value, c.line], ["estimated", s.estimated, c.guess], ["threshold", s.threshold, c.limit]]) {
      for (let i = values.length - 1; i >= 0; i -= 1) {
        if (values[i] == null) continue;
        let y = u.valToPos(values[i], "y", true) - 6 * ratio;
        while (said.some((other) => Math.abs(other - y) < 14 * ratio)) y -= 14 * ratio;
        said.push(y);
        ctx.fillStyle = ink;
        const text = name === "threshold" ? `threshold ${figure(values[i])}` : name;
        ctx.textAlign = "right";
        ctx.fillText(text, bbox.left + bbox.width - 4 * ratio, y);
        break;
      }
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
    const few = s.time.length < 2;
    const points = (ink, hollow) => ({ show: s.time.length < 120, size: 5, stroke: ink, fill: hollow ? "transparent" : ink });
    const span = few && s.time.length ? { range: [s.time[0] - 86400, s.time[0] + 86400] } : {};
    charts = [
      new uPlot({
        width, height: 330, padding: [22, 12, 0, 0], cursor, axes: axes(c), scales: { x: { time: true, ...span } },
        tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
        series: [x,
          { label: "Low", stroke: "transparent", width: 0, points: { show: false }, value },
          { label: "High", stroke: "transparent", width: 0, points: { show: false }, value },
          { label: "Realized", stroke: c.line, width: 2, points: points(c.line), value },
          { label: "Estimated", stroke: c.guess, width: 1.5, dash: [5, 4], points: points(c.guess, true), value, show: s.estimated.some((v) => v != null) },
          { label: "Threshold", stroke: c.limit, width: 1.5, dash: [2, 3], points: { show: false }, value },
        ],
        bands: [{ series: [2, 1], fill: c.band }],
        hooks: { draw: [(u) => annotate(u, c)] },
      }, [s.time, s.low, s.high, s.value, s.estimated, s.threshold], metric),
      new uPlot({
        width, height: 130, padding: [8, 12, 0, 0], cursor,
        axes: axes(c, { values: (_, all) => all.map((v) => `${Math.round(v * 100)}%`) }),
        scales: { x: { time: true, ...span }, y: { range: [0, 1] } },
        tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
        series: [x, { label: "Labels known", stroke: c.line, fill: c.band, width: 1.5, points: { show: false }, value: (_, v) => (v == null ? "–" : `${(v * 100).toFixed(1)}%`) }],
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
