(() => {
  const cells = JSON.parse(document.getElementById("data").textContent);
  const grid = document.getElementById("grid");
  const tip = document.getElementById("tip");
  const [head, ...rows] = [...grid.querySelectorAll("tr")];
  let at = null;

  const hide = () => { at?.classList.remove("at"); at = null; tip.hidden = true; };

  const show = (cell, near) => {
    if (cell !== at) {
      hide();
      at = cell;
      cell.classList.add("at");
      const [row, column] = [rows.indexOf(cell.parentElement), cell.cellIndex - 1];
      const { entropy, top, followed } = cells[row][column];
      const lines = [`${cell.parentElement.cells[0].textContent} at ${[...head.cells[cell.cellIndex].childNodes].map((node) => node.textContent).join(" ")}`, `entropy ${entropy.toFixed(3)} nats`];
      for (const [token, probability] of top) lines.push(`${probability.toFixed(3)}  ${token}`);
      if (followed) lines.push(`followed token: rank ${followed[0]}, logit ${followed[1].toFixed(3)}, probability ${followed[2].toPrecision(3)}`);
      tip.textContent = lines.join("\n");
      tip.hidden = false;
    }
    placeTip(tip, near);
  };

  grid.addEventListener("pointermove", (event) => {
    const cell = event.target.closest("td");
    if (cell) show(cell, [event.clientX, event.clientY]); else hide();
  });
  grid.addEventListener("pointerleave", hide);
  grid.addEventListener("blur", hide);
  // Arrow keys move the mark without a pointer.
  grid.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const clamp = (value, end) => Math.max(0, Math.min(end - 1, value));
    const row = at ? clamp(rows.indexOf(at.parentElement) + step[0], rows.length) : rows.length - 1;
    const column = at ? clamp(at.cellIndex - 1 + step[1], cells[row].length) : cells[row].length - 1;
    const cell = rows[row].cells[column + 1];
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    const box = cell.getBoundingClientRect();
    show(cell, [box.right, box.top]);
  });
})();
