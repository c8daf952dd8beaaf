// Pictures on canvas. Each function draws everything it shows; the callers draw only what has changed.

export const colour = (slot, light = 55) => `hsl(${(slot * 137.508 + 18) % 360} 65% ${light}%)`;

function prepare(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const draw = canvas.getContext("2d");
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  return { draw, width, height, theme: (name) => style.getPropertyValue(`--${name}`).trim() };
}

function axis({ draw, width, theme }, y, label) {
  draw.strokeStyle = theme("line");
  draw.fillStyle = theme("dim");
  draw.lineWidth = 1;
  draw.font = "10px system-ui, sans-serif";
  draw.beginPath();
  draw.moveTo(0, Math.round(y) + 0.5);
  draw.lineTo(width, Math.round(y) + 0.5);
  draw.stroke();
  draw.fillText(label, 2, y - 3);
}

// Stacked bars on a square-root scale: decode steps of a few tokens stay visible beside a prefill of hundreds.
export function drawSteps(canvas, steps, kept) {
  const p = prepare(canvas), { draw, width, height, theme } = p;
  const most = Math.max(16, ...steps.map((step) => (step.prefill + step.decode) / step.steps));
  const y = (tokens) => height - Math.sqrt(tokens / most) * (height - 14);
  for (const mark of [most, most / 4]) axis(p, y(mark), `${Math.round(mark)}`);
  const bar = width / kept, left = width - steps.length * bar;
  steps.forEach((step, i) => {
    const decode = step.decode / step.steps, all = decode + step.prefill / step.steps;
    const x = left + i * bar, w = Math.max(1, bar - 0.6);
    draw.fillStyle = theme("prefill");
    draw.fillRect(x, y(all), w, y(decode) - y(all));
    draw.fillStyle = theme("decode");
    draw.fillRect(x, y(decode), w, height - y(decode));
  });
}

export function drawSpeed(canvas, rates, kept) {
  const p = prepare(canvas), { draw, width, height, theme } = p;
  const most = Math.max(10, ...rates), y = (rate) => height - (rate / most) * (height - 14);
  for (const mark of [most, most / 2]) axis(p, y(mark), `${Math.round(mark)}`);
  if (rates.length < 2) return;
  const step = width / (kept - 1), left = width - (rates.length - 1) * step;
  draw.beginPath();
  rates.forEach((rate, i) => draw.lineTo(left + i * step, y(rate)));
  draw.strokeStyle = theme("accent");
  draw.lineWidth = 1.8;
  draw.stroke();
  draw.lineTo(width, height);
  draw.lineTo(left, height);
  draw.globalAlpha = 0.15;
  draw.fillStyle = theme("accent");
  draw.fill();
  draw.globalAlpha = 1;
}

// One square a page; with more pages than squares, each stands for several and shows the busiest of them.
export function drawPages(canvas, picture) {
  const { draw, width, height, theme } = prepare(canvas);
  const total = picture.pages.total;
  let size = Math.floor(Math.sqrt((width * height) / total));
  while (size > 4 && Math.floor(width / size) * Math.floor(height / size) < total) size--;
  size = Math.max(4, Math.min(size, 22));
  const columns = Math.floor(width / size), cells = Math.min(total, columns * Math.floor(height / size));
  const each = Math.ceil(total / cells), owners = new Int32Array(Math.ceil(total / each));
  let page = 0;
  for (let i = 0; i < picture.page_runs.length; i += 2) {
    const owner = picture.page_runs[i], end = page + picture.page_runs[i + 1];
    if (owner !== 0) {
      for (let cell = Math.floor(page / each); cell <= Math.floor((end - 1) / each); cell++) {
        if (owner > 0 || owners[cell] === 0) owners[cell] = owner;
      }
    }
    page = end;
  }
  const gap = size > 6 ? 1.5 : 1, free = theme("free"), cached = theme("cached");
  owners.forEach((owner, i) => {
    draw.fillStyle = owner > 0 ? colour(owner - 1) : owner < 0 ? cached : free;
    draw.fillRect((i % columns) * size, Math.floor(i / columns) * size, size - gap, size - gap);
  });
}

// The tree from left to right: each edge a bar as long as its pages (compressed), children beside one another.
export function drawTree(canvas, shown) {
  const { draw, width, height, theme } = prepare(canvas);
  const nodes = new Map([[0, { children: [], pages: 0 }]]);
  for (const [number, parent, pages, locks, hits, used, head] of shown) {
    const node = { number, pages, locks, hits, used, head, children: [] };
    nodes.set(number, node);
    nodes.get(parent)?.children.push(node);
  }
  const span = (node) => 12 + 26 * Math.log2(1 + node.pages);
  const measure = (node) => {
    node.leaves = 0;
    node.reach = 0;
    for (const child of node.children) {
      measure(child);
      node.leaves += child.leaves;
      node.reach = Math.max(node.reach, span(child) + child.reach);
    }
    node.leaves ||= 1;
  };
  const root = nodes.get(0);
  measure(root);
  if (!shown.length) return;
  const row = Math.min(24, height / root.leaves), scale = width / Math.max(root.reach, 300);
  const most = Math.max(...shown.map((entry) => entry[4]), 1);
  draw.font = "11px ui-monospace, monospace";
  draw.textBaseline = "middle";
  const place = (node, x, y) => {
    node.children.sort((a, b) => a.number - b.number);
    for (const child of node.children) {
      const w = span(child) * scale, h = child.leaves * row;
      draw.globalAlpha = child.locks ? 1 : 0.28 + 0.5 * Math.sqrt(child.hits / most);
      draw.fillStyle = child.locks ? theme("decode") : theme("cached");
      draw.beginPath();
      draw.roundRect(x + 1, y + 1, w - 2, Math.max(1, h - 2), 3);
      draw.fill();
      draw.globalAlpha = 1;
      if (h >= 13 && typeof child.head === "string") {
        draw.save();
        draw.beginPath();
        draw.rect(x + 4, y, w - 8, h);
        draw.clip();
        draw.fillStyle = child.locks ? theme("panel") : theme("text");
        const label = `${child.head.replace(/\s+/g, " ").slice(0, 40)} \u00b7 ${child.pages}p${child.hits ? ` \u00b7 ${child.hits} hits` : ""}`;
        draw.fillText(label, x + 6, y + h / 2);
        draw.restore();
      }
      place(child, x + w, y);
      y += h;
    }
  };
  place(root, 0, 0);
}
