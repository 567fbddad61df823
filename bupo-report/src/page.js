(() => {
  const hover = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");

  // Formats a number with three decimal places, or in exponential notation.
  const show = (value) => (Math.abs(value) >= 1000 || (value !== 0 && Math.abs(value) < 0.001)
    ? value.toExponential(2) : String(Number(value.toFixed(3))));

  // The text for a position in a chart, and the rectangle that marks it.
  const describe = {
    line(chart, at, _cells, label) {
      const all = [...new Set(chart.series.flatMap((series) => series.points.map((point) => point.x)))].sort((a, b) => a - b);
      if (all.length === 0) return null;
      const [left, right] = chart.x;
      const wanted = at.index ?? left + (at.x - chart.plot.x) / chart.plot.width * (right - left);
      const index = at.index !== undefined ? Math.max(0, Math.min(all.length - 1, at.index))
        : all.reduce((best, x, i) => (Math.abs(x - wanted) < Math.abs(all[best] - wanted) ? i : best), 0);
      const x = all[index];
      const lines = chart.series.flatMap((series) => {
        const point = series.points.find((other) => other.x === x);
        if (!point || point.y === null) return [];
        const interval = point.interval ? `  (${show(point.interval[0])} to ${show(point.interval[1])})` : "";
        return [`${series.name}: ${show(point.y)}${interval}`];
      });
      const place = chart.plot.x + (right === left ? 0.5 : (x - left) / (right - left)) * chart.plot.width;
      return { index, text: [`${label} ${show(x)}`, ...lines].join("\n"), frame: [place, chart.plot.y, 0, chart.plot.height] };
    },
    heat(chart, at, cells) {
      if (chart.rows === 0 || chart.columns === 0) return null;
      const width = chart.plot.width / chart.columns;
      const height = chart.plot.height / chart.rows;
      const clamp = (value, end) => Math.max(0, Math.min(end - 1, value));
      const index = at.index !== undefined ? clamp(at.index, chart.rows * chart.columns)
        : clamp(Math.floor((chart.plot.y + chart.plot.height - at.y) / height), chart.rows) * chart.columns
          + clamp(Math.floor((at.x - chart.plot.x) / width), chart.columns);
      const row = Math.floor(index / chart.columns);
      const column = index % chart.columns;
      const frame = [chart.plot.x + column * width, chart.plot.y + chart.plot.height - (row + 1) * height, width, height];
      if (!cells) return { index, text: "", frame };
      const value = cells.values[row]?.[column];
      const more = (value) => (value === 0 ? "equal" : `${show(Math.abs(value))} more in ${cells.more[value < 0 ? 0 : 1]}`);
      const text = [`${cells.columns[column]}, ${cells.rows[row]}`, value == null ? "not measured"
        : `${cells.value}: ${cells.more ? more(value) : show(value)}`];
      for (const [token, probability] of cells.top?.[row]?.[column] ?? []) text.push(`${probability.toFixed(3)}  ${token}`);
      return { index, text: text.join("\n"), frame };
    },
  };

  document.querySelectorAll("[data-plot]").forEach((plot, number) => {
    const svg = plot.querySelector("svg");
    const { chart, cells, x_label } = hover[number];
    const cursor = document.createElementNS(svg.namespaceURI, "rect");
    cursor.setAttribute("class", "cursor");
    let index = null;

    const hide = () => { cursor.remove(); tip.hidden = true; };
    const mark = (at, near) => {
      const found = describe[chart.kind](chart, at, cells, x_label);
      if (!found) return;
      index = found.index;
      ["x", "y", "width", "height"].forEach((name, i) => cursor.setAttribute(name, found.frame[i]));
      svg.append(cursor);
      if (tip.textContent !== found.text) tip.textContent = found.text;
      tip.hidden = found.text === "";
      const box = cursor.getBoundingClientRect();
      placeTip(tip, near ?? [box.right, box.top]);
    };
    plot.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * chart.width;
      const y = (event.clientY - box.top) / box.height * chart.height;
      const { plot: area } = chart;
      if (x < area.x || x > area.x + area.width || y < area.y || y > area.y + area.height) return hide();
      mark({ x, y }, [event.clientX, event.clientY]);
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    // Arrow keys move the mark without a pointer.
    plot.addEventListener("keydown", (event) => {
      const columns = chart.kind === "heat" ? chart.columns : 0;
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: columns, ArrowDown: -columns }[event.key];
      if (event.key === "Escape") return hide();
      if (!step) return;
      event.preventDefault();
      mark({ index: index === null ? 0 : Math.max(0, index + step) });
    });
  });
})();
